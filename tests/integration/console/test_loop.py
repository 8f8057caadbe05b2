"""The loop, once: pictures are asked about, reviewed, exported, merged into the data set, trained on, and compared.

How much it gains is measured elsewhere; here each step takes what the one before has left, and audits stay sealed.
"""

import io
import json
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from tests.integration.console.consoles import running
from tests.integration.running import QUICK, ROOT, Server, Workspace
from training.data.manifest import Manifest

CHOSEN, DRAWN = 16, 4
PNG = {"Content-Type": "image/png"}


def shifted(path: Path) -> bytes:
    """A picture as another camera would show it: brighter, and mirrored."""
    pixels = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
    file = io.BytesIO()
    Image.fromarray((255 * (pixels[:, ::-1] / 255) ** 0.6).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def label_next(client: httpx.Client, label: str) -> None:
    held = client.post("/reviews/next").raise_for_status().json()
    client.post(f"/reviews/{held['id']}/label", json={"label": label}).raise_for_status()


def test_reviews_make_the_next_model(own: Workspace, server: Server, tmp_path: Path) -> None:
    parent = Manifest.read(own.home / "digits/manifest.json")
    root = own.path / json.loads((own.home / "digits/run.json").read_text())["dataset_root"]
    samples = parent.samples_of("train")[:: len(parent.samples_of("train")) // (CHOSEN + DRAWN)][: CHOSEN + DRAWN]
    pictures = {sample.label + str(n): (shifted(root / sample.path), sample.label) for n, sample in enumerate(samples)}
    database, kept = f"sqlite:///{tmp_path / 'reviews.db'}", tmp_path / "pictures"
    settings = {"database": database, "pictures": str(kept), "audit_share": "1"}
    with (
        running(tmp_path, servers=f"http://{server.rest}", **settings) as console,
        httpx.Client(base_url=console.url, timeout=60) as client,
    ):
        for n, (picture, label) in enumerate(pictures.values()):
            client.post("/reviews/items" if n < CHOSEN else "/predict", content=picture, headers=PNG).raise_for_status()
            while client.post("/reviews/next").status_code == 404:  # the line before the queue is not empty yet
                pass
            label_next(client, label)
        [figures] = client.get("/reviews/figures").json()
    assert (figures["drawn"], figures["counted"]) == (DRAWN, DRAWN)

    reviews, data = tmp_path / "reviews", tmp_path / "digits-2"
    env = {"VISOR_CONSOLE_DATABASE": database, "VISOR_CONSOLE_PICTURES": str(kept)}
    done = own.visor("console", "export", "--out", str(reviews), env=env)
    assert done.returncode == 0, done.stderr
    said = own.ok("data", "from-reviews", "runs/digits", str(reviews), "--out", str(data))
    assert f"{CHOSEN:6} to learn from" in said
    assert f"{DRAWN:6} drawn at random, sealed" in said

    new = ["--set", "data.source=imagefolder", "--set", f"data.path={data}", "--set", "data.layout=splits"]
    own.ok(
        "train",
        str(ROOT / "training/configs/digits.yaml"),
        *QUICK,
        *new,
        "--set",
        "data.leaks=allow",
        "--out",
        str(tmp_path / "run"),
    )
    manifest = Manifest.read(tmp_path / "run/manifest.json")
    splits = {sample.sha256: sample.split for sample in manifest.samples}
    assert {sample.sha256: sample.split for sample in parent.samples}.items() <= splits.items()
    provenance = json.loads((data / "reviews.json").read_text())
    assert provenance["parent"] == parent.digest
    assert {one["sha256"]: one["split"] for one in provenance["reviews"]}.items() <= splits.items()
    assert len(splits) == len(parent.samples) + CHOSEN + DRAWN
    compared = own.visor("compare", str(own.home / "digits"), str(tmp_path / "run"))
    assert compared.returncode in (0, 3), compared.stderr
