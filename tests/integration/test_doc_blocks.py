"""The documents' commands run as they stand, page by page and in order, where no mark says otherwise (`tests/unit/blocks.py`).

Each page begins in the same folder: one of a checkout where `make demo` was, with a quickly trained `roofs`. `PAGES` says what
its reader has done before, and what its placeholders are here. Servers take free ports, and end with the page.
"""

import re
import shlex
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from docs.examples.fresh_roofs import draw
from tests.integration.console.consoles import running
from tests.integration.running import ROOT, BeginHome, Workspace, shell, start_server, stop_server
from tests.unit.blocks import Block, blocks_of, commands, pages_of_the_site

SMALL: dict[str, Any] = {
    "preprocessing": {"height": 32, "width": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "model": {"network": "small_cnn"},
    "fit": {"phases": [{"epochs": 2, "learning_rate": 0.003, "unfreeze": "all"}], "batch_size": 32},
    "backend": "torch",
    "explanation_images": 4,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "training/configs/digits.yaml": SMALL
    | {"preprocessing": SMALL["preprocessing"] | {"height": 16, "width": 16}, "backend": "openvino-int8"},
    "training/configs/imagefolder.yaml": SMALL,
    "training/configs/roofs.yaml": SMALL
    | {"data": {"source": "roofs", "count": 400, "size": 64}}
    | {"decision": {"positive": ["damaged"], "false_negative": 5, "review_cost": 0.3, "max_fnr": 0.2}},
    "training/configs/roofs-pretrain.yaml": SMALL
    | {"data": {"source": "roofs", "count": 200, "size": 48, "labelled_fraction": 0.5}}
    | {"pretrain": {"epochs": 2, "warmup_epochs": 1, "batch_size": 32, "probe_every": 1}},
    "docs/examples/rare_roofs.yaml": SMALL,
}
"""Configs of the documents, made so small that they are trained in seconds: these keys take the place of a file's own."""


@dataclass(frozen=True)
class Page:
    """What a page's reader has, and how its text reads here.

    before: commands that were given before those of the page
    here: pieces of its text, and what stands in their place
    exits: exit codes other than 0 of commands that begin so, as the page says
    says: patterns that the page's output has, one after the other
    """

    before: str = ""
    here: dict[str, str] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    says: tuple[str, ...] = ()


PAGES = {
    "docs/audit.md": Page(
        before="""
visor serve roofs
echo request_id,label >labels.csv; echo digest,label >digests.csv
for file in pictures/*; do
  name=$(basename $file .jpg)
  curl -sf http://127.0.0.1:8080/v2/models/roofs/infer -H 'Content-Type: image/jpeg' -H "x-request-id: $name" --data-binary @$file
  echo $name,${name%-*} >>labels.csv; echo $(sha256sum <$file | cut -c -64),${name%-*} >>digests.csv
done
grep '^{' logs/roofs.log >edge.log
visor score roofs pictures --out scores.parquet
""",
        here={"/var/lib/node/": ""},
    ),
    "docs/data.md": Page(
        before="""
visor data manifest training/configs/roofs.yaml --out old.json
visor data manifest training/configs/roofs.yaml --set data.seed=1 --out new.json
""",
        here={"/data/roofs": "data/roofs"},
        exits={"visor data diff": 1},
    ),
    "docs/decisions.md": Page(
        here={
            "--share 0.05": "--share 0.2 --count 300",
            "--damaged 10000 --intact 40000": "--damaged 120 --intact 120",
            "calibration runs/rare-05": "calibration runs/rare-05 --damaged 20 --draws 2",
            "--damaged 20000 --intact 0": "--damaged 400 --intact 0",
        },
    ),
    "docs/drift.md": Page(before="visor score roofs pictures --out scores.parquet\n"),
    "docs/erasure.md": Page(before="mkdir reports scores\n"),
    "docs/guide.md": Page(
        before="""
for name in damage use; do
  sed "s/^name: images/name: $name/; s#path: images#path: data/roofs#" training/configs/imagefolder.yaml >$name.yaml
done
""",
        here={"/data/roofs": "data/roofs", "visor keys ": ": as the demo did, visor keys #"},
    ),
    "docs/pages.md": Page(here={"make demo": ": what tests/integration/test_demo.py does #"}),
    "docs/reviews-loop.md": Page(
        before="""
visor serve roofs
visor console serve --audit-share 0.5
for file in pictures/*; do curl -sf http://127.0.0.1:8090/predict -F image=@$file; done
for _ in $(seq 40); do
  id=$(curl -sf --retry 9 --retry-all-errors -X POST http://127.0.0.1:8090/reviews/next | jq .id)
  curl -sf -X POST http://127.0.0.1:8090/reviews/$id/label --json '{"label": "intact"}'
done
""",
        here={
            "epochs: 24": "epochs: 1",
            "epochs: 14": "epochs: 1",
            "--pool 2000 --held-out 3000": "--set data.count=200 --pool 60 --held-out 40 --reviews 20 --seeds 0 --orders cost",
        },
    ),
    "docs/reviews.md": Page(
        before="""
visor console key me --scope review --keys-file keys.json >key
visor serve roofs
visor console serve --keys-file keys.json
""",
        here={"~/key": "key"},
    ),
    "docs/scoring.md": Page(
        before="""
ls pictures >list.txt
visor data manifest training/configs/roofs.yaml --out manifest.json
""",
        here={"runs/data/roofs-...": "$(jq -r .dataset_root runs/roofs/run.json)", "--group site=north": ""},
    ),
    "docs/search.md": Page(
        before="visor train training/configs/roofs.yaml --set seed=1 --out runs/roofs-deep\n",
        here={
            "--trials 12": "--trials 2",
            "3f2a... 77b0...": "$(jq -r .mlflow_run_id runs/roofs/run.json runs/roofs-deep/run.json)",
            "--version 7": "--version 2",
        },
        exits={"visor promote": 1},  # 30 damaged roofs show no difference of two trainings, and no missed share below 0.05
        says=(r"does not become the champion: its cost less", r"does not become the champion: .+ misses .+ of the 30 positives"),
    ),
}
RUN = [page for page in pages_of_the_site() if any(not block.mark for block in blocks_of(page))]
NAMED = re.compile(r"(?<![\w-])(?:--out|--explain|--report|--metrics|-o|>)[= ]?([\w./-]+)")


def merge(config: Path, keys: dict[str, Any]) -> None:
    """Put keys in the place of a config's own."""
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | keys))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, begin_home: BeginHome) -> Workspace:
    """A checkout's folder after a small demo, with pictures by the names of the documents."""
    place = Workspace(tmp_path_factory.mktemp("documents") / "checkout")
    begin_home(place.home)
    for name in ("docs/examples", "training/configs"):
        shutil.copytree(ROOT / name, place.path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, keys in CONFIGS.items():
        merge(place.path / name, keys)
    for folder, seed in (("data/roofs", 7), ("pictures", 8)):
        for number, (label, jpeg) in enumerate(draw(seed, damaged=60, intact=60, size=64)):
            name = f"{label}/{number:03}.jpg" if folder == "data/roofs" else f"{label}-{number:03}.jpg"
            file = place.path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg)
    (place.path / "logs").mkdir()
    place.ok("keys")
    place.ok("train", "training/configs/roofs.yaml")
    place.ok("archive", "runs/roofs")
    place.ok("register", "roofs")
    for name in ("a.jpg", "roof.jpg"):
        shutil.copy(ROOT / "docs/examples/roof.jpg", place.path / name)
    shutil.copy(next(place.home.glob("data/*/damaged/*.jpg")), place.path / "photo.jpg")
    shutil.copytree(place.path, place.path.with_name("kept"))
    return place


@pytest.fixture
def place(pristine: Workspace) -> Workspace:
    """The same folder for each page, as MLflow's store knows where it is; as it was before, at the page's beginning."""
    shutil.rmtree(pristine.path)
    shutil.copytree(pristine.path.with_name("kept"), pristine.path)
    return pristine


@dataclass
class Reader:
    """Somebody who follows a page in a folder. `ports`: of the page's text, and here."""

    page: Page
    place: Workspace
    servers: ExitStack
    ports: dict[str, str] = field(default_factory=dict)
    said: str = ""

    def follow(self, block: Block) -> None:
        """Give a block's commands: servers run on, and all that stands between them is one shell's.

        A server of more flags than its ports, such as one that asks for tokens, is asked by its own block alone.
        """
        ports = dict(self.ports)
        if block.language == "python":
            self._run(f"python - <<'PYTHON'\n{block.text}PYTHON\n")
            return
        text = block.text
        if block.language == "console":
            text = "".join(line[2:] + "\n" for line in text.splitlines() if line.startswith("$ "))
        for old, new in self.page.here.items():
            text = text.replace(old, new)
        for serves, some in groupby(commands(text), lambda command: bool(re.match(r"visor (console )?serve\b", command))):
            if serves:
                for command in some:
                    words = shlex.split(command, comments=True)[1:]
                    if not self._serve(words):
                        ports = dict(self.ports)
            else:
                self._run("".join(map(self._with_exit, some)))
        self.ports = ports

    def _with_exit(self, command: str) -> str:
        for begins, code in self.page.exits.items():
            if command.startswith(begins):
                return f"{{ {command}}} && exit 99 || [ $? -eq {code} ]\n"
        return command

    def _serve(self, words: list[str]) -> bool:
        """Start a server; whether it has flags of its own."""

        def flag(name: str, default: str) -> str:
            """The value of a flag, which goes from the words."""
            if name not in words:
                return default
            at = words.index(name)
            value = words[at + 1]
            del words[at : at + 2]
            return value

        if words[0] == "serve":
            rest, grpc = flag("--port", "8080"), flag("--grpc-port", "8081")
            server = start_server(self.place, words[1], self.place.path / f"logs/{'-'.join(words[1:])}.log", *words[2:])
            self.servers.callback(stop_server, server)
            self.ports |= {rest: server.rest.rpartition(":")[2], grpc: server.grpc.rpartition(":")[2]}
        else:
            servers = f"http://127.0.0.1:{self.ports['8080']}"
            console = self.servers.enter_context(running(self.place.path, *words[2:], servers=servers))
            self.ports["8090"] = str(urlsplit(console.url).port)
        return words[0] == "serve" and len(words) > 2

    def _run(self, text: str) -> None:
        """Run this in one shell that the first failure ends."""
        text = re.sub(r"\b(8080|8081|8090|8180|8181)\b", lambda port: self.ports.get(port[0], port[0]), text)
        if "8080" in self.ports:
            text = re.sub(r"visor predict (?!.*--(?:url|archive))", rf"\g<0>--url http://127.0.0.1:{self.ports['8080']} ", text)
        if "8090" in self.ports:
            text = re.sub(r"visor console add ", rf"\g<0>--console http://127.0.0.1:{self.ports['8090']} ", text)
        done = shell(text, self.place.path)
        self.said += done.stdout + done.stderr


@pytest.mark.parametrize("name", RUN)
def test_the_page_s_commands_run_as_they_stand(name: str, place: Workspace) -> None:
    page = PAGES.get(name, Page())
    blocks = [block for block in blocks_of(name) if not block.mark]
    with ExitStack() as servers:
        reader = Reader(page, place, servers)
        reader.follow(Block("what was done before", 1, "sh", page.before))
        reader.said = ""
        for block in blocks:
            reader.follow(block)
    for block in blocks:
        for file in NAMED.findall(block.text) if block.language == "sh" else ():
            assert list(place.path.rglob(Path(file).name)), f"{block} named {file}"
        if block.language == "console":
            for line in block.text.splitlines():
                if not line.startswith("$ "):
                    form = re.sub(r"\d+(?:\\\.\d+)?", r"[\\d.]+", re.escape(line)).replace(r"\.\.\.", ".*")
                    assert re.search(form, reader.said), f"{line}\n{reader.said}"
    at = 0
    for pattern in page.says:
        found = re.compile(pattern, re.MULTILINE).search(reader.said, at)
        assert found, f"{pattern}\n{reader.said[at:]}"
        at = found.end()
