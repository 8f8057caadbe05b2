"""How `visor predict` reaches a server: addresses, TLS, tokens, and what it says of secrets in the clear and of nonsense."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.unit.visor.tls import ANSWER, NAME, Authority, Canned, grpc_server, make_authority, rest_server
from visor import cli
from visor.answers import Answer
from visor.client import Client
from visor.connection import Access, Address, read_token
from visor.errors import AnswerInvalid, ClientError

TOKEN = "s3cret-0123456789"
Serve = Callable[..., contextlib.AbstractContextManager[Canned]]
BOTH = pytest.mark.parametrize(("scheme", "serve"), [("https", rest_server), ("grpcs", grpc_server)])
PLAIN = pytest.mark.parametrize(("scheme", "serve"), [("http", rest_server), ("grpc", grpc_server)])


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISOR_TOKEN", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"picture")
    return path


def ask(url: str, picture: Path, access: Access = Access(), **headers: str) -> Answer:  # noqa: B008 - frozen
    shown = {"cacert": access.cacert, "cert": access.cert, "key": access.key}
    with Client(url, token=access.token, headers=headers, **shown) as client:
        return client.predict(picture)


def check(answer: Answer) -> None:
    """Of a server that says no probabilities: its labels are not asked for."""
    assert (answer.label, answer.confidence, answer.decision, answer.error) == ("damaged", 0.75, "flag", None)
    assert answer.probabilities == {}


@BOTH
def test_tls_with_an_authority_of_ones_own(scheme: str, serve: Serve, authority: Authority, picture: Path) -> None:
    with serve(authority) as canned:
        check(ask(f"{scheme}://{canned.address}", picture, Access(cacert=authority.cacert, token=TOKEN)))
    assert [headers["authorization"] for headers in canned.headers] == [f"Bearer {TOKEN}"] * 2


@BOTH
def test_a_certificate_of_an_unknown_authority_is_refused(scheme: str, serve: Serve, authority: Authority, picture: Path) -> None:
    with serve(authority) as canned, pytest.raises(ClientError, match=r"(?i)certificate"):
        ask(f"{scheme}://{canned.address}", picture, Access(token=TOKEN))
    assert canned.headers == []


@BOTH
def test_a_certificate_of_another_name_is_refused(scheme: str, serve: Serve, authority: Authority, picture: Path) -> None:
    access = Access(cacert=authority.cacert, token=TOKEN)
    with serve(authority) as canned, pytest.raises(ClientError):
        ask(f"{scheme}://{canned.address}", picture, access, host="walls.example.com")
    assert canned.headers == []


@BOTH
def test_the_host_header_is_the_certificates_name(scheme: str, serve: Serve, authority: Authority, picture: Path) -> None:
    with serve(authority) as canned:
        check(ask(f"{scheme}://{canned.address}", picture, Access(cacert=authority.cacert), host=f"{NAME}:30443"))
    if scheme == "https":
        assert canned.headers[0]["host"] == f"{NAME}:30443"


@BOTH
@pytest.mark.parametrize("one_file", [False, True])
def test_a_client_shows_its_certificate(scheme: str, serve: Serve, one_file: bool, authority: Authority, picture: Path) -> None:
    own = authority.client
    shown = Access(authority.cacert, own.both) if one_file else Access(authority.cacert, own.cert, own.key)
    with serve(authority, clients=True) as canned:
        with pytest.raises(ClientError):
            ask(f"{scheme}://{canned.address}", picture, Access(authority.cacert))
        assert canned.headers == []
        check(ask(f"{scheme}://{canned.address}", picture, shown))


def test_a_path_stands_before_v2(picture: Path) -> None:
    with rest_server() as canned:
        check(ask(f"http://{canned.address}/models/east/", picture))
    assert canned.paths == ["/models/east/v2/repository/index", "/models/east/v2/models/roofs/infer"]


@pytest.mark.parametrize(
    ("behind", "path", "model"),
    [
        ("/v2", "", None),
        ("/v2/", "", None),
        ("/v2/models", "", None),
        ("/v2/models/roofs", "", "roofs"),  # as `visor serve` prints it
        ("/v2/models/roofs/infer", "", "roofs"),
        ("/east/v2/models/a%20b", "/east", "a b"),
        ("/east/v2", "/east/v2", None),  # a prefix of its own
        ("/v2/models/roofs/versions/1", "/v2/models/roofs/versions/1", None),
    ],
)
def test_what_an_address_says_behind_v2_is_no_prefix(behind: str, path: str, model: str | None) -> None:
    address = Address.parse(f"http://host:1{behind}")
    assert (address.path, address.model) == (path, model)


def test_the_address_that_serving_prints_is_asked(picture: Path) -> None:
    with rest_server() as canned:
        url = f"http://{canned.address}/east/v2/models/roofs"
        check(ask(url, picture))
        with pytest.raises(ClientError, match="names another model than 'walls'; leave out what begins with /v2"):
            Client(url, model="walls")
    assert canned.paths == ["/east/v2/models/roofs/infer"]


@pytest.mark.parametrize("flag", ["cacert", "cert"])
def test_a_pem_file_that_is_not_there_is_named(flag: str, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=f"--{flag} {tmp_path}/none is not there; name a PEM file"):
        Access(**{flag: tmp_path / "none"}).check(Address.parse("https://host"), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("grpc://host:1/some/prefix", "gRPC has none"),
        ("grpc://host", "names no port"),
        ("ftp://host", "http://HOST:PORT"),
        ("host:8080", "http://HOST:PORT"),
        ("http://", "http://HOST:PORT"),
        ("http://host:port", "no URL"),
        ("http://[::1", "no URL"),
        ("http://host/?token=a", "a query or a fragment"),
        ("https://host/#a", "a query or a fragment"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, words: str) -> None:
    with pytest.raises(ClientError, match=r"client\.failed") as caught:
        Address.parse(url)
    assert words in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:hunter2@host", "grpcs://me@host:1", "https://:hunter2@host/a"])
def test_user_and_password_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ClientError, match="user or password") as caught:
        Address.parse(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8080", True),
        ("127.9.9.9:1", True),
        ("[::1]:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST:8080", True),
        ("a.localhost:1", True),
        ("10.0.0.1:8080", False),
        ("localhost.example.com:1", False),
        ("127.0.0.1.example.com:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("roofs:80", False),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_secret_that_leaves_the_machine_in_the_clear_is_told_of(
    scheme: str, host: str, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    address = Address.parse(f"{scheme}://{host}")
    Access(token=TOKEN).check(address, {"cookie": TOKEN, "x-visor-canary": "true"})
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ([] if own else [f"sent to {host} without TLS: cookie and token; " + REST.format(scheme)])
    assert TOKEN not in caplog.text
    caplog.clear()
    Access().check(address, {"x-visor-canary": "true"})
    Access(token=TOKEN).check(Address.parse(f"{scheme}s://{host}"), {"authorization2": "x"})
    assert caplog.records == []


REST = "whoever is on the way can read it and use it, so ask {}s:// where there is one"


def test_what_contradicts_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("")
    plain, secure = Address.parse("grpc://h:1"), Address.parse("grpcs://h:1")
    for access, address, headers, words in [
        (Access(key=file), secure, {}, "has no certificate"),
        (Access(cacert=file), plain, {}, "ask grpcs://"),
        (Access(cert=file), plain, {}, "ask grpcs://"),
        (Access(cacert=tmp_path / "none"), secure, {}, "none is not there"),
        (Access(cacert=file), secure, {}, "holds no certificates"),
        (Access(cert=file), secure, {}, "hold no certificate with its key"),
        (Access(token=TOKEN), secure, {"authorization": "Basic a"}, "keep one"),
    ]:
        with pytest.raises(ClientError, match=words):
            access.check(address, headers)


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(authority.client.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    encryption = serialization.BestAvailableEncryption(b"hunter2")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    with pytest.raises(ClientError, match="without a passphrase"):
        Access(cert=authority.client.cert, key=locked).check(Address.parse("https://h"), {})


def test_a_token_comes_from_its_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f"# until May\n\n  {TOKEN}  \nanother-token-of-the-edge\n")
    assert read_token(None) == ""
    monkeypatch.setenv("VISOR_TOKEN", "of-the-environment\n")
    assert read_token(None) == "of-the-environment"
    assert read_token(file) == TOKEN
    assert TOKEN not in repr(Access(token=TOKEN))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "holds no token"), (b"# a\n", "holds no token"), (b"two words", "has spaces"), (b"\xff", "no text")],
)
def test_a_token_file_without_one_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ClientError, match=words) as caught:
        read_token(file)
    assert "two words" not in str(caught.value)
    with pytest.raises(ClientError, match=r"--token-file .*/none is not there; name a file"):
        read_token(tmp_path / "none")


def test_a_token_of_the_environment_with_a_line_break_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISOR_TOKEN", "a\r\nHost: b")
    with pytest.raises(ClientError, match="the token of VISOR_TOKEN has spaces"):
        read_token(None)


def test_a_secret_on_the_command_line_is_told_of(picture: Path, caplog: pytest.LogCaptureFixture) -> None:
    with rest_server() as canned:
        arguments = ["predict", str(picture), "--url", f"http://{canned.address}"]
        assert cli.main([*arguments, "--header", f"Authorization: Bearer {TOKEN}", "--header", "x-visor-canary: true"]) == 0
    assert canned.headers[1]["authorization"] == f"Bearer {TOKEN}"
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("--header authorization: every user of this machine can read it")
    assert TOKEN not in caplog.text


def test_the_command_has_no_flag_for_the_token_itself(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", str(picture), "--token", TOKEN])
    capsys.readouterr()
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with rest_server() as canned:
        assert cli.main(["predict", str(picture), "--url", f"http://{canned.address}", "--token-file", str(file)]) == 0
    assert canned.headers[1]["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in "".join(capsys.readouterr())


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"index": {"error": "no"}}, "client.answer"),
    ({"index": 7}, "client.answer"),
    ({"index": None}, "client.answer"),
    ({"index": b"<html>"}, "client.answer"),
    ({"index": [{"title": "x"}]}, "client.answer"),
    ({"answer": []}, "client.answer"),
    ({"answer": ["x"]}, "client.answer"),
    ({"answer": {}}, "client.answer"),
    ({"answer": {"outputs": []}}, "client.answer"),
    ({"answer": b""}, "client.answer"),
    ({"answer": {**ANSWER, "parameters": "x"}}, "client.answer"),
    ({"answer": {**ANSWER, "outputs": [{**one, "shape": [0], "data": []} for one in ANSWER["outputs"]]}}, "client.answer"),  # type: ignore[dict-item]
    ({"index": {"error": "request.unauthenticated: no"}, "status": 401}, "client.failed"),
    ({"index": b"", "status": 301}, "client.failed"),
    ({"index": b"<html>", "status": 404}, "client.failed"),
    ({"index": b"[]", "status": 503}, "client.failed"),
]


@pytest.mark.parametrize(("answers", "code"), NONSENSE, ids=str)
def test_what_is_not_v2_is_an_error_with_a_code(
    answers: dict[str, Any], code: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rest_server() as canned:
        for name, value in answers.items():
            setattr(canned, name, value)
        assert cli.main(["predict", str(picture), "--url", f"http://{canned.address}"]) == 1
    assert capsys.readouterr().err.startswith(f"visor: {code}: ")


def test_a_redirect_is_named_and_not_followed(picture: Path) -> None:
    with rest_server() as canned:
        canned.status, canned.index = 308, b""
        with pytest.raises(ClientError, match=r"redirects \(308\)"):
            ask(f"http://{canned.address}", picture, Access(token=TOKEN))
    assert len(canned.paths) == 1


def test_a_server_of_another_protocol_is_an_error(picture: Path) -> None:
    with grpc_server() as canned, pytest.raises(ClientError, match=f"ask grpc://{canned.address}, or REST's own port"):
        ask(f"http://{canned.address}", picture)
    with rest_server() as canned, pytest.raises(ClientError, match=f"answers without TLS; ask http://{canned.address}$"):
        ask(f"https://{canned.address}", picture)
    with rest_server() as canned, pytest.raises(ClientError, match=f"ask http://{canned.address}, or gRPC's own port"):
        ask(f"grpc://{canned.address}", picture)
    with rest_server() as canned, pytest.raises(ClientError, match=f"answers without TLS; ask grpc://{canned.address}$"):
        ask(f"grpcs://{canned.address}", picture)
    with pytest.raises(ClientError, match="connection refused; is `visor serve` running"):
        ask("grpc://127.0.0.1:9", picture)


def test_an_invalid_answer_is_one_of_the_clients_errors() -> None:
    assert issubclass(AnswerInvalid, ClientError)
