"""Draw what was answered about a picture, and say where drawings lie."""

from hashlib import sha256
from pathlib import Path

from PIL import Image

from archives.files import naming
from drawing.picture import draw
from handlers.spec import Limits
from visor.answers import Answer
from visor.errors import NoHeatMap
from visor.pictures import read

ANSWERED = Limits(max_bytes=1 << 40, max_pixels=1 << 30)
"""Of a picture that has been answered: its limits were those of whoever answered."""


def draw_answer(answer: Answer) -> Image.Image:
    """Draw an answer's picture. Raises its error, NoHeatMap, and what reading the picture raises."""
    if answer.error:
        raise answer.error
    if answer.heatmap is None:
        raise NoHeatMap("the answer has no heat map to draw; ask with explain=True")
    said = f"{answer.label} {answer.confidence:.3f}  {answer.decision}"
    return draw(read(answer.source, answer.decoding), answer.heatmap, said, ANSWERED, answer.decoding)


def save(drawing: Image.Image, path: Path) -> None:
    """Write a drawing as a PNG, with the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        drawing.save(path)


def place(folder: Path, image: Path) -> Path:
    """Return where a picture is drawn, a name of its own for each path: the picture's, its folder's and its path's digest."""
    whole = image.resolve()
    return folder / f"{whole.parent.name}-{whole.name}-{_digest(str(whole))}-heatmap.png"


def place_below(folder: Path, listed: str) -> Path:
    """Return where a picture of a list is drawn: below the folder as its path says, a name of its own for each path.

    What leads out of the list's root, such as "..", is left out, and the path's digest is in the name instead.
    """
    *parents, name = Path(listed).parts
    inside = [part for part in parents if part not in ("/", "..")]
    mark = "" if inside == parents else f"-{_digest(listed)}"
    return folder.joinpath(*inside, f"{name}{mark}-heatmap.png")


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
