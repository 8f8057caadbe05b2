"""Bodies that are one picture, written out by hand as RFC 7578 and RFC 2046 have them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.errors import FormInvalid
from transformer.rest.upload import guess_picture, is_upload, read_upload

FORM = "multipart/form-data; boundary=XX"
HEAD = b'--XX\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("image/jpeg", True),
        ("IMAGE/*", True),
        (" multipart/form-data ; boundary=x", True),
        ("multipart/form-data", True),
        ("multipart/mixed; boundary=x", False),
        ("application/json", False),
        ("text/plain; image/png", False),
        ("", False),
    ],
)
def test_what_is_an_upload(content_type, expected):
    assert is_upload(content_type, b"") is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"\x89PNG\r\n", True), (b"\0\0\0\x18ftypheic", True), (b"GIF89a", True), (b' {"inputs": []}', False), (b"\0\0\0\0", False)],
)
def test_bytes_of_no_said_kind_are_one_where_they_begin_like_a_picture(body, expected):
    assert is_upload("application/octet-stream", body) is expected
    assert not is_upload("application/json", body)


def test_an_image_is_the_whole_body():
    assert read_upload(b"\xff\xd8", "image/jpeg") == b"\xff\xd8"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, HEAD + b"picture\r\n--XX--\r\n"),
        (FORM, HEAD + b"picture\r\n--XX--"),
        ('multipart/form-data; charset=utf-8; Boundary="XX"', HEAD + b"picture\r\n--XX--\r\n"),
        (FORM, b"for old readers\r\n\r\n" + HEAD + b"picture\r\n--XX--\r\nafterwards"),
        (FORM, b"--XX\r\n\r\npicture\r\n--XX--\r\n"),
    ],
)
def test_the_one_part_of_a_form(content_type, body):
    assert bytes(read_upload(body, content_type)) == b"picture"


@pytest.mark.parametrize("end", [b"\r\n\r\n--XX--", b"\r\n--XX--"])
def test_a_part_without_contents(end):
    assert bytes(read_upload(HEAD[:-4] + b"\r\n" + end, FORM)) == b""


@given(st.binary(max_size=100).filter(lambda contents: b"\r\n--XX" not in b"\r\n" + contents))
def test_contents_come_out_as_they_went_in(contents):
    assert bytes(read_upload(HEAD + contents + b"\r\n--XX--\r\n", FORM)) == contents


@pytest.mark.parametrize(
    ("content_type", "body", "word"),
    [
        ("multipart/form-data", HEAD + b"picture\r\n--XX--", "boundary"),
        ("multipart/form-data; boundary=", HEAD + b"picture\r\n--XX--", "boundary"),
        (f"multipart/form-data; boundary={'x' * 71}", HEAD + b"picture\r\n--XX--", "no whole part"),
        ("multipart/form-data; boundary=YY", HEAD + b"picture\r\n--XX--", "no whole part"),
        (FORM, b"", "no whole part"),
        (FORM, b"--XX--\r\n", "no whole part"),
        (FORM, HEAD[:-2], "no whole part"),
        (FORM, HEAD + b"half a pic", "no whole part"),
        (FORM, HEAD + b"picture\r\n" + HEAD + b"picture\r\n--XX--", "several parts"),
    ],
)
def test_forms_that_are_not_one_picture(content_type, body, word):
    with pytest.raises(FormInvalid, match=word):
        read_upload(body, content_type)


@given(st.binary(max_size=60) | st.text("-X\r\n", max_size=30).map(str.encode), st.sampled_from([FORM, "multipart/form-data"]))
def test_arbitrary_forms_are_read_or_refused(body, content_type):
    with contextlib.suppress(FormInvalid):
        read_upload(body, content_type)


def test_beginnings_of_pictures():
    assert guess_picture(memoryview(b"\xff\xd8\xff\xe0more")) == "a JPEG"
    assert guess_picture(memoryview(b"\0\0\0\x18ftypheicmore")) == "a HEIC or AVIF"
    assert guess_picture(b'{"inputs"') == ""
