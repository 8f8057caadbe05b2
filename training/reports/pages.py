"""What all pages share: pictures, the environment of their templates, and how figures are written."""

import base64
import re
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from handlers.errors import counted

UNDEFINED = "\N{EN DASH}"
"""What stands in the place of a figure that is not defined."""


@dataclass(frozen=True)
class Picture:
    """An encoded image and, for readers who cannot see it, what it shows."""

    data: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The image as a data URI, its type read from its first bytes."""
        kind = "png" if self.data.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"


def environment() -> Environment:
    """Make the templates' environment: strict about names, with the text of HTML escaped."""
    made = Environment(
        loader=PackageLoader("training.reports"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"counted": counted, "share": share, "number": number, "unbroken": unbroken}
    return made


def share(value: float | None) -> str:
    """Write a fraction as a percentage, and a dash for what is not defined."""
    return UNDEFINED if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """Write a number with three decimals, and a dash for what is not defined."""
    return UNDEFINED if value is None else f"{value:.3f}"


def small(value: float | None) -> str:
    """Write a number that may be near 0 with three decimals, so that 0.000 is read of nothing but 0."""
    return "below 0.0005" if value is not None and 0 < abs(value) < 0.0005 else number(value)


def unbroken(cell: str) -> str:
    """Keep an interval, in brackets or parentheses, on one line, so that a narrow cell breaks before it and not within."""
    return re.sub(r"\[[^\]]*\]|\([\d.,%]+ to [\d.,%]+\)", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), cell)
