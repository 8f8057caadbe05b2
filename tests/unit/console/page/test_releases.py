"""Records of releases as the page reads them: of files as the rollout writes them, and of what no rollout wrote."""

import json
from pathlib import Path

from console.page import releases
from rollout.evidence import Evidence
from rollout.gates import Count
from rollout.plan import Plan, State
from rollout.record import Record
from rollout.report import to_json
from tests.unit.rollout.world import CANARY, STABLE, STEPS


def record(phase: str = "stepping", canary_errors: int = 0) -> Record:
    """A release at its second step, whose canary has failed so often of 400 requests."""
    evidence = Evidence.begin()
    for _ in range(4):
        evidence = evidence.look({"errors": (Count(canary_errors // 4, 100), Count(0, 900))})
    state = State(0.0, 50.0, evidence, phase=phase, step=1, target=50)  # type: ignore[arg-type]
    return Record(Plan(STABLE, CANARY, STEPS), state).told(1_800_000_000.0, "the share goes to <b>50</b> %")


async def test_what_status_prints_and_the_configmap_holds_are_read_alike(tmp_path: Path) -> None:
    known = record()
    (tmp_path / "roofs.json").write_text(json.dumps(to_json(known)))
    (tmp_path / "cracks-rollout").mkdir()
    (tmp_path / "cracks-rollout/record.json").write_text(json.dumps(known.to_json()))
    found = await releases.read(str(tmp_path))
    assert [one.name for one in found] == ["cracks", "roofs"]
    for one in found:
        assert one.known is not None
        assert json.dumps(one.known.to_json()) == json.dumps(known.to_json())
        assert one.sentence == "stepping at 50 %"
        assert one.kind == "going"
        assert [gate.found.words for gate in one.findings] == [finding["words"] for finding in to_json(known)["findings"]]
        assert one.history[0].what == "the share goes to <b>50</b> %"


async def test_a_mounted_configmap_is_one_release(tmp_path: Path) -> None:
    folder = tmp_path / "roofs-rollout"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(record("promoted").to_json()))
    (folder / "phase").write_text("promoted")
    [found] = await releases.read(str(folder))
    assert (found.name, found.kind) == ("roofs", "pass")


def test_gates_are_drawn_by_what_they_know() -> None:
    calm, failing = (releases.parse("roofs", json.dumps(record(canary_errors=n).to_json())) for n in (0, 200))
    gates = {gate.found.gate.name: gate for gate in failing.findings}
    assert gates["errors"].word == "alarm"
    assert gates["errors"].bar == 100.0
    assert {gate.word for gate in calm.findings} == {"open"}
    [errors] = [gate for gate in calm.findings if gate.found.gate.name == "errors"]
    assert errors.bar == round(min(100.0, 50 * errors.found.upper / errors.found.gate.margin), 2)


async def test_what_is_no_record_says_so_and_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text('{"format": 99}')
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "d.json").write_bytes(b"\xff")
    (tmp_path / "e.json").write_text(json.dumps(record().to_json()))
    found = await releases.read(str(tmp_path))
    assert [bool(one.known) for one in found] == [False, False, False, False, True]
    assert "format 99" in found[1].sentence
    assert all(one.kind == "error" for one in found[:4])
    assert await releases.read(str(tmp_path / "empty")) != []
    (tmp_path / "none").mkdir()
    assert await releases.read(str(tmp_path / "none")) == []


async def test_an_address_that_does_not_answer_says_so() -> None:
    [found] = await releases.read("http://127.0.0.1:9/roofs-rollout.json")
    assert found.name == "roofs"
    assert "does not answer" in found.sentence


def test_times_are_utc() -> None:
    assert releases.when(1_800_000_000.0) == "2027-01-15 08:00:00 UTC"
