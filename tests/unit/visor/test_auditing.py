"""`visor audit` as its users call it: tables and logs as they come, codes, exit status, metrics."""

import hashlib
import json
import subprocess
import sys
import unicodedata
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archives import signing
from handlers.spec import FnrBound
from tests.unit.archives.crafted import put
from tests.unit.specs import make_spec
from transformer.request_log import Record, RequestLog
from transformer.upstream.image_answers import ImageAnswer
from visor import cli
from visor.scoring import parts

SPEC = make_spec(
    ("damaged", "intact"),
    positive=("damaged",),
    fnr_bound=FnrBound(level=0.05, threshold=0.5, positives=120),
)
PRINTED = ["tiny version 1: 100 labels, 100 of them used", "promise: at most 5.00% missed"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return signing.make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def archive(keys, tmp_path_factory):
    return put(tmp_path_factory.mktemp("archive"), keys[0], spec=SPEC)


@pytest.fixture
def audit(archive, keys, capsys):
    """Run `visor audit`: the exit status, and what it printed."""

    def run(*arguments, spec_of=archive):
        status = cli.main(["audit", str(spec_of), *map(str, arguments), "--public-key", str(keys[1])])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines()[-1] if printed.err else ""

    return run


def line(key, decision="flag", **fields):
    about = {"model": "tiny", "version": "1", "track": "stable", "event": "request", "request_id": key, "status": 200, "code": ""}
    return json.dumps({**about, "bytes": 7, "images": 1, "decisions": {decision: 1} if decision else {}, **fields})


@pytest.fixture
def log(tmp_path):
    def write(*lines):
        file = tmp_path / "edge.log"
        file.write_text("".join(f"{one}\n" for one in lines))
        return file

    return write


@pytest.fixture
def table(tmp_path):
    def write(rows, head="request_id,label"):
        file = tmp_path / "labels.csv"
        file.write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
        return file

    return write


def served(missed, positives=50, negatives=50):
    """A log in which so many of the positive images passed, and the table of their labels."""
    lines = [line(f"p{n}", "pass" if n < missed else "flag") for n in range(positives)]
    lines += [line(f"n{n}", "pass") for n in range(negatives)]
    rows = [(f"p{n}", "damaged") for n in range(positives)] + [(f"n{n}", "intact") for n in range(negatives)]
    return lines, rows


def test_a_request_log_and_a_table_make_a_verdict(audit, log, table):
    lines, rows = served(2)
    status, out, _ = audit(log(*lines), "--labels", table(rows))
    assert status == 0
    assert all(printed in out for printed in PRINTED)
    assert "missed                                 2  4.00%; " in out
    assert "open: the labels do not show yet" in out
    assert "on average over calibration splits" in out


def test_too_many_misses_are_an_alarm(audit, log, table, tmp_path):
    lines, rows = served(15)
    status, out, _ = audit(log(*lines), "--labels", table(rows), "--json", "--metrics", tmp_path / "visor.prom")
    assert status == 3
    found = json.loads(out)
    [own] = found["promises"]
    assert (found["alarm"], own["verdict"], own["missed"], own["labels"]) == (True, "broken", 15, 50)
    assert own["lower"] > own["promised"] == 0.05
    assert 1 <= own["alarm_at"] <= 15
    metrics = dict(one.rsplit(" ", 1) for one in (tmp_path / "visor.prom").read_text().splitlines() if one[0] != "#")
    series = '{model="tiny",version="1",group=""}'
    assert metrics[f"visor_audit_labels_total{series}"] == "50"
    assert float(metrics[f"visor_audit_missed_share{series}"]) == 0.3
    assert float(metrics[f"visor_audit_lower{series}"]) == own["lower"]
    assert float(metrics[f"visor_audit_upper{series}"]) == own["upper"]
    assert float(metrics[f"visor_audit_promised{series}"]) == 0.05
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_promtool_s_own_parser_reads_the_metrics(audit, log, table, tmp_path):
    from prometheus_client.parser import text_string_to_metric_families

    lines, rows = served(0, positives=0)
    assert audit(log(*lines), "--labels", table(rows), "--metrics", tmp_path / "visor.prom")[0] == 0
    families = list(text_string_to_metric_families((tmp_path / "visor.prom").read_text()))
    assert {family.name for family in families} == {
        "visor_audit_labels", "visor_audit_missed_share", "visor_audit_lower", "visor_audit_upper", "visor_audit_promised",
    }  # fmt: skip
    share = next(family for family in families if family.name == "visor_audit_missed_share").samples[0].value
    assert share != share  # of no label: NaN


def test_a_promise_of_the_callers_takes_the_place(audit, log, table):
    lines, rows = served(15)
    assert audit(log(*lines), "--labels", table(rows), "--promise", "0.5")[0] == 0
    with pytest.raises(SystemExit) as left:
        audit(log(*lines), "--labels", table(rows), "--promise", "1")
    assert left.value.code == 2


def test_of_a_log_only_this_archives_own_answers_count(audit, log, table):
    lines = [
        "Java says something {not JSON",
        "[pod/roofs/transformer-container] " + line("a", "pass"),
        line("b", "flag", model="roofs"),
        line("c", "flag", version="2"),
        line("d", "flag", threshold=0.9),
        line("e", None, images=2, decisions={"flag": 1, "pass": 1}),
        line("f", None, code="image.undecodable", status=400),
        line("g", None, code="server.overloaded", status=503),
        line("g", "flag"),  # tried again
        line("h", "flag"),
        line("h", "pass", bytes=8),  # another picture under the same id
        line("i", "flag"),
        line("i", "flag"),  # the same one
        line("j", "maybe"),
        line("k", "flag", group="site=north"),  # no group of the archive's
        json.dumps({"event": "request", "decisions": 7}),
        json.dumps([1]),
    ]
    rows = [(key, "damaged") for key in "abcdefghijk"]
    status, out, _ = audit(log(*lines), "--labels", table(rows), "--json")
    assert status == 0
    found = json.loads(out)
    assert found["left_out"] == {
        "other_archive": 2, "other_threshold": 2, "several_images": 1, "unanswered": 2,
    }  # fmt: skip
    assert found["labelled"] == {"pass": 1, "flag": 3}
    assert found["answered"] == {"pass": 1, "flag": 3}  # each image once
    assert "1 images with a label were answered again in another way: the first answer counts." in found["notes"]


def test_later_answers_do_not_take_back_an_alarm(audit, log, table):
    """40 positive images, the first 8 missed; then four of these are answered again, and flagged."""
    lines = [line(f"i{n}", "pass" if n < 8 else "flag") for n in range(40)]
    rows = table([(f"i{n}", "damaged") for n in range(40)])
    status, before, _ = audit(log(*lines), "--labels", rows, "--json")
    later, after, _ = audit(log(*lines, *(line(f"i{n}") for n in range(4))), "--labels", rows, "--json")
    assert (status, later) == (3, 3)
    assert json.loads(after)["promises"] == json.loads(before)["promises"]
    assert json.loads(after)["promises"][0]["alarm_at"] == 5
    assert "4 images with a label were answered again in another way" in json.loads(after)["notes"][-2]


def test_the_lines_that_the_edge_writes_are_those_that_are_read(audit, table, tmp_path):
    """Its own log: one image that passed, one by another threshold, one group that there is not, one request of two images; and a
    shadow's, which nobody was answered."""
    with (tmp_path / "edge.log").open("wb") as file:
        written = RequestLog("all", {"model": "tiny", "version": "1", "track": "stable"}, file)
        for key, more in {
            "a": {},
            "b": {"threshold": 0.9},
            "c": {"group": "site=north"},
            "d": {"images": 2},
            "e": {"shadow": True},
        }.items():
            answer = replace(ImageAnswer.blank(SPEC), decision="pass")
            record = Record("rest", "/v2/models/tiny/infer", id=key, inference=True, **{"images": 1, "results": [answer], **more})
            record.end()
            written.write(record)
    rows = [(key, "damaged") for key in "abcde"]
    found = json.loads(audit(tmp_path / "edge.log", "--labels", table(rows), "--json")[1])
    assert found["left_out"] == {"other_threshold": 2, "several_images": 1, "unknown_id": 1}
    assert found["promises"][0]["missed"] == 1


def test_a_picture_that_failed_has_the_archives_decision_on_errors(keys, tmp_path, log, table, audit):
    rule = SPEC.decision.model_copy(update={"on_error": "review"})
    archive = put(tmp_path / "archive", keys[0], spec=SPEC.model_copy(update={"decision": rule}))
    rows = [("a", "damaged")]
    found = json.loads(audit(log(line("a", None)), "--labels", table(rows), "--json", spec_of=archive)[1])
    assert found["labelled"] == {"review": 1}


def test_labels_for_what_was_flagged_alone_are_refused(audit, log, table):
    lines = [line(f"f{n}") for n in range(60)] + [line(f"p{n}", "pass") for n in range(60)]
    rows = [(f"f{n}", "damaged" if n % 3 else "intact") for n in range(60)]
    status, out, err = audit(log(*lines), "--labels", table(rows))
    assert (status, out) == (1, "")
    assert err.startswith("visor: audit.selection: none of the negative labels")


def test_an_alarm_stays_whatever_is_labelled_after_it(audit, log, table):
    """8 of 40 positive images were missed; the negative labels that follow are all of flagged images."""
    lines = [line(f"i{n}", "pass" if n < 8 else "flag") for n in range(100)] + [line(f"p{n}", "pass") for n in range(900)]
    rows = [(f"i{n}", "damaged" if n < 40 else "intact") for n in range(100)]
    status, out, _ = audit(log(*lines), "--labels", table(rows), "--json")
    assert status == 3
    [own] = json.loads(out)["promises"]
    assert (own["verdict"], own["alarm_at"], own["upper"]) == ("broken", 5, 1.0)
    assert any(note.startswith("No negative label is of an image that passed") for note in json.loads(out)["notes"])


def test_an_image_that_is_asked_again_and_again_counts_once(audit, log, table):
    """Of 50 images 5 passed, and one of them 10,000 times. That none of 10 negative labels is of these has a chance of 31 %."""
    lines = [line(f"d{n}", "pass" if n < 5 else "flag") for n in range(50)] + [line("d0", "pass")] * 9999
    rows = [(f"d{n}", "damaged" if n % 2 else "intact") for n in range(5, 25)]
    status, out, _ = audit(log(*lines), "--labels", table(rows), "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["answered"], found["labelled"]) == ({"pass": 5, "flag": 45}, {"flag": 20})
    assert not any("drawn at random" in note for note in found["notes"])


def test_labels_that_came_by_decision_show_no_promise_to_be_kept(audit, log, table, tmp_path):
    """All 200 flagged images have a label, and 2 of 800 that passed: 1 of 151 positive images was missed."""
    lines = [line(f"d{n}", "pass" if n < 800 else "flag") for n in range(1000)]
    rows = [(f"d{n}", "damaged" if n < 950 else "intact") for n in range(800, 1000)] + [("d0", "damaged"), ("d1", "intact")]
    status, out, _ = audit(log(*lines), "--labels", table(rows), "--metrics", tmp_path / "visor.prom")
    assert status == 0
    assert "open: the labels do not show yet" in out
    assert "note: 0.25% of the images that passed and 100.00% of the others have a label" in out
    assert 'visor_audit_upper{model="tiny",version="1",group=""} 1.0' in (tmp_path / "visor.prom").read_text()


def scored(folder, archive, rows, **fields):
    """What `visor score` leaves: a folder of parts."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    given = {
        "name": "tiny", "version": "1", "archive_digest": digest, "labels": SPEC.labels, "threshold": 0.5,
        "threshold_overridden": False, "review_from": 0.5, "review_to": 0.5, "group": None, "promise": "held", "explain": False,
        "images": len(rows), "listing_digest": "b" * 64,
    }  # fmt: skip
    scoring = parts.Scoring(**given | fields)
    parts.claim(folder, scoring)
    for number in range(scoring.parts):
        parts.write(folder, scoring, number, [{"path": key, "digest": key, "decision": rows[key]} for key in
                                              [*rows][scoring.rows(number).start : scoring.rows(number).stop]])  # fmt: skip
    return scoring


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("labels_as", ["csv", "parquet"])
def test_answers_of_a_scoring_are_named_by_digest(archive, tmp_path, audit, table, single, labels_as):
    rows = {f"{n:064x}": "pass" if n % 4 == 0 else "flag" for n in range(90)}
    place = tmp_path / "scores"
    scoring = scored(place, archive, rows)
    if single:
        parts.merge(place, scoring, tmp_path / "scores.parquet")
        place = tmp_path / "scores.parquet"
    named = [(key, "damaged") for key in rows]
    labels = table(named, head="digest,label")
    if labels_as == "parquet":
        labels = tmp_path / "labels.parquet"
        pq.write_table(pa.table({"extra": [0.5] * 90, "label": ["damaged"] * 90, "digest": [*rows]}), labels)
    status, out, _ = audit(place, "--labels", labels, "--json")
    assert status == 3
    [own] = json.loads(out)["promises"]
    assert (own["labels"], own["missed"]) == (90, 23)


@pytest.mark.parametrize(
    ("fields", "reason"), [({"archive_digest": "e" * 64}, "other_archive"), ({"threshold_overridden": True}, "other_threshold")]
)
def test_a_scoring_by_another_rule_is_left_out_where_the_archives_own_is_there(archive, tmp_path, audit, table, fields, reason):
    scored(tmp_path / "own", archive, {"a" * 64: "flag"})
    scored(tmp_path / "other", archive, {"a" * 64: "pass", "b" * 64: "pass"}, **fields)
    rows = [("a" * 64, "damaged"), ("b" * 64, "damaged")]
    labels = table(rows, head="digest,label")
    found = json.loads(audit(tmp_path / "other", tmp_path / "own", "--labels", labels, "--json")[1])
    assert (found["left_out"], found["labelled"]) == ({reason: 1}, {"flag": 1})
    status, _, err = audit(tmp_path / "other", "--labels", labels)
    assert status == 1
    assert err.startswith("visor: audit.answers: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; it needs label and one of request_id and digest"),
        (b"Request_ID;Label\na;damaged\n", "did you mean request_id by 'Request_ID', label by 'Label'?"),
        (b"Digest,label\na,damaged\n", "did you mean digest by 'Digest'?"),
        (b"id\tlabels\na\tdamaged\n", "did you mean label by 'labels'?"),
        (b"label\ndamaged\n", "needs label and one of"),
        (b"request_id,digest,label\n", "needs label and one of"),
        (b"request_id,label,label\na,b,c\n", "needs label and one of"),
        (b"request_id,label\n", "has no label"),
        (b'request_id,label\n"a,damaged\n', "cannot be read as a table"),
        ("request_id,label\na,beschädigt\n".encode("latin-1"), "is not UTF-8; save it as UTF-8"),
        ("request_id,label\na,damaged\n".encode("utf-16"), "is not UTF-8; save it as UTF-8"),
        (b"PK\x03\x04\x00\x00\x80", "holds bytes that are no text"),
    ],
)
def test_a_bad_table_has_its_code(audit, log, tmp_path, content, words):
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    status, _, err = audit(log(line("a")), "--labels", file)
    assert status == 1
    assert err.startswith("visor: audit.labels: ")
    assert words in err


def test_tables_that_cannot_be_read_at_all_have_codes_too(audit, log, table, tmp_path):
    broken = tmp_path / "labels.parquet"
    broken.write_bytes(b"PAR1 no")
    logged, labels = log(line("a")), table([("a", "damaged")])
    for answers, labels_file, code in (
        (logged, broken, "audit.labels"),
        (logged, tmp_path / "nowhere.csv", "audit.labels"),
        (tmp_path / "nowhere.log", labels, "audit.answers"),
        (log(), labels, "audit.answers"),
        (broken, table([("a" * 64, "damaged")], head="digest,label"), "audit.answers"),
    ):
        status, out, err = audit(answers, "--labels", labels_file)
        assert (status, out, err.split(": ")[1]) == (1, "", code)


@pytest.mark.parametrize("kept", ["all", "csv", "columns", "metadata"])
def test_answers_are_not_taken_for_labels(archive, tmp_path, audit, table, kept):
    scoring = scored(tmp_path / "scores", archive, {"a" * 64: "flag"})
    labels = tmp_path / "scores.parquet"
    parts.merge(tmp_path / "scores", scoring, labels)
    if kept == "csv":
        labels = table([("a" * 64, "damaged", "0.9", "flag")], head="digest,label,confidence,decision")
    if kept == "columns":
        pq.write_table(pq.read_table(labels).replace_schema_metadata(), labels)
    if kept == "metadata":
        pq.write_table(pq.read_table(labels, columns=["digest", "label"]), labels)
    status, out, err = audit(tmp_path / "scores", "--labels", labels)
    assert (status, out) == (1, "")
    assert err.startswith(f"visor: audit.labels: {labels} is what `visor score` wrote, or part of it")


@pytest.mark.parametrize("head", ["request_id,label", "digest,label"])
def test_answers_that_are_not_there_are_said_so(tmp_path, audit, table, head):
    labels = table([("a", "damaged")], head=head)
    for place in (tmp_path / "nowhere.log", tmp_path / "nowhere.parquet", tmp_path / "scores"):
        status, _, err = audit(place, "--labels", labels)
        assert (status, err) == (
            1,
            f"visor: audit.answers: {place} is not there; name a request log, or what `visor score` wrote",
        )
    status, _, err = audit(tmp_path, "--labels", labels)
    assert status == 1
    assert err.startswith(f"visor: audit.answers: {tmp_path} is a folder in which `visor score` wrote no answers; ")


def test_a_scoring_names_images_by_digests_and_a_log_by_request_ids(archive, tmp_path, audit, table, log):
    scored(tmp_path / "scores", archive, {"a" * 64: "flag"})
    for place, head, names in (
        (tmp_path / "scores", "request_id,label", "digests"),
        (log(line("a")), "digest,label", "request ids"),
    ):
        status, _, err = audit(place, "--labels", table([("a", "damaged")], head=head))
        assert status == 1
        assert f"{place} names images by {names}, as " in err


def test_a_table_of_labels_in_the_place_of_answers_is_told_as_that(audit, table):
    labels = table([("a" * 64, "damaged")], head="digest,label")
    status, _, err = audit(labels, "--labels", labels)
    assert status == 1
    assert err == (
        f"visor: audit.answers: {labels} has no answers, neither of a request log nor of `visor score`; the labels name images "
        "by digest, as `visor score` does: name what it wrote"
    )


def test_a_short_row_and_a_byte_order_mark_are_taken_as_they_are(audit, log, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes("\ufeffrequest_id,label\r\na,damaged\r\n\r\nb\r\n".encode())
    found = json.loads(audit(log(line("a"), line("b")), "--labels", file, "--json")[1])
    assert (found["used"], found["left_out"]) == (1, {"unknown_label": 1})


@pytest.mark.parametrize("divider", [";", "\t", ","])
def test_a_table_is_read_by_its_divider_and_without_the_blanks_around_a_cell(audit, log, tmp_path, divider):
    file = tmp_path / "labels.csv"
    file.write_text(f"request_id{divider}label\n a {divider} damaged \nb{divider}intact\n")
    found = json.loads(audit(log(line("a"), line("b", "pass")), "--labels", file, "--json")[1])
    assert (found["used"], found["left_out"]) == (2, {})


def test_a_digest_has_no_case(archive, tmp_path, audit, table):
    scored(tmp_path / "scores", archive, {"ab" * 32: "flag", "cd" * 32: "pass"})
    labels = table([("AB" * 32, "damaged"), (f"{'Cd' * 32} ", "intact")], head="digest,label")
    found = json.loads(audit(tmp_path / "scores", "--labels", labels, "--json")[1])
    assert (found["used"], found["left_out"]) == (2, {})


@pytest.mark.parametrize("rows", [[("x", "damaged"), ("x", "damaged")], [("x", "damaged"), ("a", "torn"), ("A", "intact")]])
def test_a_table_without_an_id_of_the_answers_is_refused(audit, log, table, rows):
    status, out, err = audit(log(line("a")), "--labels", table(rows))
    assert (status, out) == (1, "")
    assert "none of the ids in " in err
    assert "labels.csv, such as 'x', is that of an answer in " in err
    assert err.endswith("request_id is to be the id that the request log has; name the logs in which these requests are")


def test_an_id_of_an_answer_that_is_left_out_is_known(audit, log, table):
    status, out, _ = audit(log(line("a"), line("b", images=2)), "--labels", table([("b", "damaged"), ("x", "damaged")]))
    assert status == 0
    assert "left out, several_images" in out


def test_a_parquet_with_other_columns_says_which_were_meant(audit, log, tmp_path):
    pq.write_table(pa.table({"Digest": ["a"], "label": ["damaged"]}), tmp_path / "labels.parquet")
    err = audit(log(line("a")), "--labels", tmp_path / "labels.parquet")[2]
    assert "has the columns 'Digest, label'; it needs label and one of request_id and digest; did you mean digest by" in err
    assert "nowhere.csv is not there; name a table" in audit(log(line("a")), "--labels", tmp_path / "nowhere.csv")[2]


def test_ids_and_labels_are_joined_however_their_accents_are_spelt(keys, tmp_path, audit, log, table):
    nfc, nfd = (unicodedata.normalize(form, "fêlé") for form in ("NFC", "NFD"))
    bound = FnrBound(level=0.05, threshold=0.5, positives=120)
    archive = put(tmp_path / "archive", keys[0], spec=make_spec((nfc, "intact"), positive=(nfc,), fnr_bound=bound))
    for logged, named in ((nfc, nfd), (nfd, nfc)):
        labels = table([(f"{named}{n}", nfd) for n in range(30)])
        answers = log(*(line(f"{logged}{n}", "pass") for n in range(30)))
        assert audit(answers, "--labels", labels, spec_of=archive)[0] == 3


@pytest.mark.parametrize(
    ("label", "why"),
    [("Damaged", "'Damaged' is none of the archive's labels, 'damaged', 'intact';"), ("", "all cells are empty")],
)
def test_a_table_without_a_label_of_the_archive_is_refused(audit, log, table, label, why):
    status, out, err = audit(log(line("a")), "--labels", table([("a", label)]))
    assert (status, out) == (1, "")
    assert err.startswith("visor: audit.labels: ")
    assert f"has no label of tiny: {why}" in err


@pytest.mark.parametrize(("positive", "words"), [((), "flags no label"), (("damaged",), "makes no promise")])
def test_an_archive_without_a_promise_has_none_to_break(keys, tmp_path, audit, log, table, positive, words):
    archive = put(tmp_path / "archive", keys[0], spec=make_spec(("damaged", "intact"), positive=positive))
    status, _, err = audit(log(line("a")), "--labels", table([("a", "damaged")]), spec_of=archive)
    assert status == 1
    assert err.startswith("visor: audit.promise: ")
    assert words in err
    if positive:
        assert audit(log(line("a")), "--labels", table([("a", "damaged")]), "--promise", "0.1", spec_of=archive)[0] == 0


def test_the_parser_needs_no_library_for_it():
    code = "import sys, visor.commands.audit; assert not {'numpy', 'scipy', 'pyarrow', 'watch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
