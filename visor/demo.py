"""Run the demo: the whole way from data to answers, each step one `visor` command with a log of its own."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from rich.console import Console
from rich.table import Table

import training
from archives.files import naming
from handlers.errors import counted
from training import config
from training.data.manifest import Manifest
from training.keys import as_name
from training.settings import look
from visor.errors import DemoError

CONFIGS = Path(training.__file__).parent / "configs"
BUILT_IN = ("roofs", "digits")
IMAGES_PER_LABEL = 4
MAX_IMAGES = 16
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class DemoPaths:
    """Says where the demo keeps what it makes: runs in `home`, archives in the model store `store`, and the key pair's files."""

    home: Path
    store: Path
    private_key: Path
    public_key: Path


@dataclass
class Journal:
    """Keeps what each step printed and how long it took. `logs`: folder of one file a step; `data`: what the demo was given;
    `seconds`: duration by step."""

    logs: Path
    data: str = "roofs"
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, step: str, *arguments: str) -> str:
        """Run one visor command, show and keep its output, and return the last line. Raises DemoError with the log."""
        with self.measure(step) as log:
            print(f"\n── {step}: visor {' '.join(arguments)}", flush=True)
            process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            lines = []
            with process, log.open("w") as file:
                for line in process.stdout or ():
                    print(f"   {line}", end="", flush=True)
                    file.write(line)
                    lines.append(line.rstrip())
            if process.returncode:
                told = [*lines[-20:], *advise("\n".join(lines), self.data, self.logs.parent)]
                raise DemoError(f"step {step!r} ended with {process.returncode}; its log is {log}:\n" + "\n".join(told))
        return lines[-1] if lines else ""

    @contextmanager
    def measure(self, step: str) -> Iterator[Path]:
        """Time a step, and yield its log's path."""
        self.logs.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with naming(self.logs):
            yield self.logs / f"{step}.log"
        self.seconds[step] = time.perf_counter() - start


def command(*arguments: str) -> list[str]:
    """Make a visor command line for the Python that runs this process, which finds no package in the folder where it runs."""
    return [sys.executable, "-P", "-m", "visor.cli", *arguments]


def advise(said: str, data: str, run: Path) -> list[str]:
    """Say how to follow, from the demo, the advice of a command that failed: it has a config and flags that the demo has not."""

    def way(override: str) -> str:
        here = f"`visor demo --data {shlex.quote(data)} --set {shlex.quote(override)}`"
        return f"{here}, or `make demo DATA={shlex.quote(data)} SET={shlex.quote(override)}`"

    if "--fresh" in said:
        return [f"The demo has neither --fresh nor --out: remove {run}, or name the run otherwise: {way('name=NAME')}."]
    if found := re.search(r"^visor: (data|config)\.\w+", said, re.MULTILINE):
        override = "data.leaks=warn" if found[0].endswith(".leak") else "KEY=VALUE"
        return [f"The demo takes keys of the config, too: {way(override)}."]
    return []


def demo(data: str, paths: DemoPaths, overrides: Sequence[str]) -> None:
    """Go from data over training, archive, registry and serving to answers over REST and gRPC. Raises DemoError."""
    path, overrides = _choose(data, overrides)
    settings = config.load(path, overrides)
    run = paths.home / settings.name
    journal = Journal(run / "logs", data)
    sets = [part for override in overrides for part in ("--set", override)]
    home = ["--home", str(paths.home)]
    store = ["--store", str(paths.store)]

    journal.run("data", "data", "make", str(path), *sets, *home)
    journal.run("train", "train", str(path), *sets, *home)
    if not paths.private_key.exists():
        journal.run("keys", "keys", "--out", str(paths.private_key.parent))
    archive = journal.run("archive", "archive", str(run), "--key", str(paths.private_key), *store)
    journal.run("register", "register", archive, "--public-key", str(paths.public_key), *store, *home)
    with _serving(journal, archive, paths) as urls:
        images = _pick(run)
        answers = {protocol: _ask(journal, protocol, url, images, run) for protocol, url in urls.items()}
    _compare(answers)
    _summarise(journal, run, archive, images, answers["rest"], paths)


def _choose(data: str, overrides: Sequence[str]) -> tuple[Path, list[str]]:
    if data in BUILT_IN:
        return CONFIGS / f"{data}.yaml", list(overrides)
    folder = Path(data).resolve()
    if not folder.is_dir():
        raise DemoError(f"--data {data} is neither {' nor '.join(BUILT_IN)} nor a folder of labelled images (FOLDER/LABEL/*.jpg)")
    return CONFIGS / "imagefolder.yaml", [f"data.path={folder}", f"name={as_name(folder.name)}", *overrides]


@contextmanager
def _serving(journal: Journal, archive: str, paths: DemoPaths) -> Iterator[dict[str, str]]:
    """Run `visor serve` on free ports until the block ends, and yield its URLs by protocol."""
    arguments = ["serve", archive, "--port", "0", "--public-key", str(paths.public_key)]
    with journal.measure("serve") as log:
        print(f"\n── serve: visor {' '.join(arguments)}", flush=True)
        with log.open("w") as file:
            server = subprocess.Popen(command(*arguments), stdout=file, stderr=subprocess.STDOUT)
        try:
            urls = _wait_ready(server, log)
        except BaseException:
            server.kill()
            server.wait()
            raise
    print("   " + log.read_text().strip().replace("\n", "\n   "), flush=True)
    try:
        yield urls
    finally:
        with journal.measure("stop"):
            server.send_signal(signal.SIGTERM)
            code: int | None
            try:
                code = server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                code = None
        if code != 0 and sys.exc_info()[0] is None:
            raise DemoError(f"step 'stop': the server ended with {code} instead of 0; its log is {log}")


def _wait_ready(server: "subprocess.Popen[bytes]", log: Path) -> dict[str, str]:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        text = log.read_text()
        rest, grpc = re.search(r"REST +(http://[^/\s]+)", text), re.search(r"gRPC +(\S+)", text)
        if rest and grpc:
            return {"rest": rest[1], "grpc": f"grpc://{grpc[1]}"}
        if server.poll() is not None:
            raise DemoError(f"step 'serve' ended with {server.returncode}; its log is {log}:\n{text[-4000:]}")
        time.sleep(0.1)
    raise DemoError(f"step 'serve' was not ready within {READY_TIMEOUT_S:.0f} s; its log is {log}:\n{log.read_text()[-4000:]}")


def _pick(run: Path) -> dict[Path, str]:
    """Pick a few test images, of every label in turn, as path → true label."""
    root = Path(json.loads((run / "run.json").read_text())["dataset_root"])
    manifest = Manifest.read(run / "manifest.json")
    tests = {label: [sample for sample in manifest.samples_of("test") if sample.label == label] for label in manifest.labels}
    turns = zip_longest(*(of_label[:IMAGES_PER_LABEL] for of_label in tests.values()))
    chosen = [sample for turn in turns for sample in turn if sample][:MAX_IMAGES]
    return {root / sample.path: sample.label for sample in sorted(chosen, key=lambda sample: (sample.label, sample.path))}


def _ask(journal: Journal, protocol: str, url: str, images: dict[Path, str], run: Path) -> list[dict[str, object]]:
    out = run / "overlays"
    arguments = ["predict", *map(str, images), "--url", url, "--explain", str(out), "--json"]
    step = f"predict-{protocol}"
    with journal.measure(step) as log:
        print(
            f"\n── {step}: visor predict ({counted(len(images), 'image')}) --url {url} --explain {shlex.quote(str(out))}",
            flush=True,
        )
        done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
        log.write_text(done.stdout + done.stderr)
        if done.returncode:
            raise DemoError(f"step {step!r} ended with {done.returncode}; its log is {log}:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _compare(answers: dict[str, list[dict[str, object]]]) -> None:
    for rest, grpc in zip(answers["rest"], answers["grpc"], strict=True):
        if differing := [key for key, value in rest.items() if grpc[key] != value]:
            raise DemoError(f"REST and gRPC disagree on {rest['image']}: {', '.join(differing)}")


def _summarise(
    journal: Journal, run: Path, archive: str, images: dict[Path, str], answers: list[dict[str, object]], paths: DemoPaths
) -> None:
    console = Console(width=110)
    table = Table("image", "truth", "label", "confidence", "decision", title="Answers (the same over REST and gRPC)")
    for (path, truth), answer in zip(images.items(), answers, strict=True):
        row = (
            f"{path.parent.name}/{path.name}",
            truth,
            str(answer["label"]),
            f"{answer['confidence']:.3f}",
            str(answer["decision"]),
        )
        table.add_row(*row)
    console.print(table)
    times = Table("step", "seconds", title="Timings")
    for step, seconds in journal.seconds.items():
        times.add_row(step, f"{seconds:.1f}")
    times.add_row("total", f"{sum(journal.seconds.values()):.1f}")
    console.print(times)
    where = {
        "report": run / "report.html",
        "metrics": run / "metrics.json",
        "heat maps": run / "overlays",
        "archive": archive,
        "MLflow": look(paths.home),
        "next": "visor inspect {0}; visor serve {0}".format(shlex.quote(str(archive))),
    }
    for what, place in where.items():
        console.print(f"[bold]{what:10}[/bold] {place}", soft_wrap=True, highlight=False)
