"""Ask visor's commands about the archives that are kept in tests/archives_0_2; as a script, write their answers down."""

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq

from tests.integration.running import Workspace, start_server, stop_server

KEPT = Path(__file__).parents[1] / "archives_0_2"
ANSWERS = KEPT / "answers.json"
NAMES = ("digits", "digits-band")
PICTURES = tuple(sorted(path.name for path in (KEPT / "images").iterdir()))

Answers = dict[str, Any]


def copy_kept(path: Path) -> Workspace:
    """Copy the kept store, key and images, not the runs, to `path`, which must not be there yet: a workspace for commands."""
    return Workspace(Path(shutil.copytree(KEPT, path, ignore=shutil.ignore_patterns("runs"))))


def inspect(workspace: Workspace, name: str) -> Answers:
    """What `visor inspect --json` prints; of the provenance, which these archives are older than, that there is none."""
    shown: Answers = json.loads(workspace.ok("inspect", name, "--json"))
    assert shown.pop("provenance", None) is None
    return shown


def predict(workspace: Workspace, name: str) -> list[Answers]:
    """What `visor predict --archive --json` prints for every kept picture; the broken one makes it exit with 1."""
    pictures = [f"images/{picture}" for picture in PICTURES]
    done = workspace.visor("predict", "--archive", name, "--json", *pictures)
    assert done.returncode == 1, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def score(workspace: Workspace, name: str) -> list[Answers]:
    """The rows that `visor score` writes for the kept pictures."""
    out = workspace.path / f"{name}.parquet"
    workspace.ok("score", name, "images", "--out", str(out), "--workers", "1")
    rows: list[Answers] = pq.read_table(out).to_pylist()
    return rows


def serve(workspace: Workspace, name: str) -> Answers:
    """What `visor serve` answers over REST when all kept pictures are asked in one request, with heat maps."""
    contents = [base64.b64encode((workspace.path / "images" / picture).read_bytes()).decode() for picture in PICTURES]
    body = {
        "id": "kept",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(contents)], "data": contents}],
        "parameters": {"explain": True},
    }
    server = start_server(workspace, name, workspace.path / f"{name}.log", "--workers", "1")
    try:
        reply = httpx.post(f"http://{server.rest}/v2/models/{name}/infer", json=body, timeout=60)
    finally:
        stop_server(server)
    assert reply.status_code == 200, reply.text
    answer: Answers = reply.json()
    return answer


ASKED = {"inspect": inspect, "predict": predict, "score": score, "serve": serve}


if __name__ == "__main__":
    place = copy_kept(Path(sys.argv[1]))
    found = {name: {command: ask(place, name) for command, ask in ASKED.items()} for name in NAMES}
    ANSWERS.write_text(json.dumps(found, indent=1) + "\n")
