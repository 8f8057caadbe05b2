"""The suite against visor and its peers, one after the other: `python -m tests.conformance.compare ARCHIVE --image FILE ...`

Starts each server on free loopback ports with the same archive's network, runs the suite with a JSON of its results, and
writes the table into this folder's README.md, between its markers. With `--keep FOLDER --only NAME` one server is run anew, and
the others' results are those that are in the folder; a server without any has no column.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.peers.environment import environment_of, free_ports, python_of
from tests.conformance import rest
from tests.conformance.subject import Options, Subject

ROOT = Path(__file__).parents[2]
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
INPUT = "image:BYTES:-1"
MODEL = "model"  # the folder of the unpacked archive
NOT_CLAIMED = "not claimed"
LEVELS = ("required", "recommended", "extension")
TOTAL = "**all**"
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0


@dataclass(frozen=True)
class Competitor:
    """A server. `name`: visor, or its folder in loadtests/peers. `options`: what the suite must be told about it."""

    title: str
    name: str
    options: tuple[str, ...] = ()

    def command(self, archive: Path, public_key: Path, home: Path) -> list[str]:
        """What starts it, without its ports."""
        if self.name == "visor":
            return [sys.executable, "-m", "visor.cli", "serve", str(archive), "--public-key", str(public_key)]
        script = ROOT / "loadtests" / "peers" / self.name / "server.py"
        return [str(python_of(self.name)), str(script), "--model", str(home / MODEL)]


COMPETITORS = (
    Competitor("visor", "visor"),
    Competitor("Triton", "triton"),
    # The SDK's documentation has binary tensors; its metadata does not claim them.
    Competitor("KServe SDK", "kserve", ("--assume", "binary_tensor_data")),
    Competitor("MLServer", "mlserver"),
    # It has no metadata of the model to read the input from.
    Competitor("TorchServe", "torchserve", ("--input", INPUT)),
)


def main(argv: list[str] | None = None) -> int:
    """Run the suite against each server; write the table of all whose results there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("archive", type=Path, help="a signed .mar")
    parser.add_argument("--public-key", type=Path, default=Path("keys/visor.pub"), help="that it is verified with (%(default)s)")
    parser.add_argument("--image", type=Path, action="append", required=True, help="a picture to send; several are better")
    parser.add_argument(
        "--only", action="append", choices=[x.name for x in COMPETITORS], help="run this one, the others' results are in --keep"
    )
    parser.add_argument("--keep", type=Path, help="a folder for logs and results")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        home = (args.keep or Path(folder)).resolve()
        shutil.rmtree(home / MODEL, ignore_errors=True)
        with zipfile.ZipFile(args.archive) as archive:
            archive.extractall(home / MODEL)
        results = {}
        for competitor in COMPETITORS:
            if args.only and competitor.name not in args.only:
                if (kept := home / f"{competitor.name}.json").exists():
                    results[competitor.title] = json.loads(kept.read_text())
                continue
            images = [image.resolve() for image in args.image]
            with started(competitor, args.archive.resolve(), args.public_key.resolve(), images, home) as address:
                results[competitor.title] = run_suite(competitor, address, home)
            outcomes = Counter(check["outcome"] for check in results[competitor.title]["checks"])
            sys.stderr.write(f"{competitor.title}: {dict(outcomes)}\n")
    if not args.only or args.keep:
        write_table(make_table(results))
    return 0


@contextmanager
def started(competitor: Competitor, archive: Path, public_key: Path, images: Sequence[Path], home: Path) -> Iterator[Options]:
    """Start a server and wait until it answers; its address as the suite takes it. Ends it and all that it started."""
    rest_port, grpc_port = free_ports(2)
    log = home / f"{competitor.name}.log"
    with log.open("w") as file:
        command = [*competitor.command(archive, public_key, home), "--port", str(rest_port), "--grpc-port", str(grpc_port)]
        process = subprocess.Popen(command, cwd=home, env=environment_of(), stdout=file, stderr=file, start_new_session=True)
    try:
        model = json.loads((home / MODEL / "spec.json").read_text())["name"]
        address = Options(f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}", model, inputs=(INPUT,), images=tuple(images))
        wait_ready(process, Subject(address), log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_ready(process: "subprocess.Popen[bytes]", subject: Subject, log: Path) -> None:
    """Return once a good request is answered: not every server has readiness. Raises SystemExit with the log's end."""
    request = rest.request_fields(subject.sample(0))
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):  # nobody listens yet
            if subject.infer(request).status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit(f"{log.name}: no answer within {READY_TIMEOUT_S:.0f} s:\n{log.read_text()[-2000:]}")


def run_suite(competitor: Competitor, address: Options, home: Path) -> dict[str, Any]:
    """The suite's JSON results; its output goes beside the server's log."""
    results = home / f"{competitor.name}.json"
    command = [sys.executable, "-m", "pytest", str(README.parent), "-p", "no:cacheprovider", "--results", str(results)]
    command += ["--rest", str(address.rest), "--grpc", str(address.grpc), "--model", address.model, *competitor.options]
    for image in address.images:
        command += ["--image", str(image)]
    with (home / f"{competitor.name}.suite.log").open("w") as log:
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the suite against {competitor.title} ended with {code}:\n{Path(log.name).read_text()[-2000:]}")
    document: dict[str, Any] = json.loads(results.read_text())
    return document


def make_table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each group and level, a column for each server, passed/total or that it is not claimed."""
    titles = list(results)
    servers = {title: document["server"] for title, document in results.items()}
    rows: dict[str, dict[str, Counter[str]]] = {}
    for title, document in results.items():
        for check in document["checks"]:
            for row in (check["group"], f"*{check['level'].partition('(')[0]}*", TOTAL):
                rows.setdefault(row, {}).setdefault(title, Counter())[check["outcome"]] += 1
    for last in (*(f"*{level}*" for level in LEVELS), TOTAL):
        rows[last] = rows.pop(last, {})
    lines = ["| checks | " + " | ".join(f"{title} {servers[title]['version'] or ''}".strip() for title in titles) + " |"]
    lines.append("| --- |" + " --- |" * len(titles))
    lines += [
        f"| {row} | " + " | ".join(_cell(cells.get(title, Counter())) for title in titles) + " |" for row, cells in rows.items()
    ]
    dates = " | ".join(results[title]["date"] for title in titles)
    about = "Passed of those made; in brackets those left out because the server does not claim them."
    return "\n".join([*lines, f"| made on | {dates} |", "", about])


def _cell(outcomes: Counter[str]) -> str:
    made = outcomes.total() - outcomes[NOT_CLAIMED]
    left_out = f" ({outcomes[NOT_CLAIMED]})" if outcomes[NOT_CLAIMED] else ""
    return f"{outcomes['passed']}/{made}{left_out}" if made else NOT_CLAIMED


def write_table(table: str) -> None:
    """Put the table between the README's markers."""
    text = README.read_text()
    before, _, rest_of_page = text.partition(BEGIN)
    _, _, after = rest_of_page.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
