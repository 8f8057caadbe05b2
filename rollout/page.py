"""A page about one release, whole in one file: figures, and all that happened. Pure."""

from datetime import UTC, datetime
from html import escape

from rollout.evidence import Finding
from rollout.record import Entry, Record, sentence

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8886; vertical-align: top; }
td.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.alarm { font-weight: bold; color: #b00020; } .verdict { font-size: 1.2rem; }
@media (prefers-color-scheme: dark) { .alarm { color: #ff8a80; } }
"""


def page(name: str, known: Record) -> str:
    """Make the page."""
    gates = "".join(map(_gate, known.state.evidence.findings()))
    steps = "".join(
        f"<tr><td>{'the shadow' if step.percent == 0 else f'{step.percent} %'}</td><td class=figure>{step.seconds:g} s</td>"
        f"<td class=figure>{step.requests:,}</td><td>{'under way' if number == known.state.step else ''}</td></tr>"
        for number, step in enumerate(known.plan.steps)
    )
    return f"""<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{escape(name)}: {known.state.phase}</title><style>{STYLE}</style>
<h1>{escape(name)}</h1>
<p class=verdict>{escape(sentence(known))}</p>
<p>{escape(known.plan.canary)} is to take the place of {escape(known.plan.stable)}.</p>
<h2>Gates</h2>
<table><tr><th>gate<th>canary<th>stable<th>at most<th>margin<th>what is known</tr>{gates}</table>
<h2>Steps</h2>
<table><tr><th>share<th>at least<th>requests<th></tr>{steps}</table>
<h2>What happened</h2>
<table><tr><th>UTC<th>phase<th>share<th></tr>{"".join(map(_entry, reversed(known.history)))}</table>
<h2>Before</h2>
<table><tr><th>UTC<th>phase<th>share<th></tr>{"".join(map(_entry, reversed(known.earlier)))}</table>
</html>
"""


def _gate(found: Finding) -> str:
    counts = "".join(f"<td class=figure>{one.events:,} of {one.total:,}" for one in (found.canary, found.stable))
    bounds = f"<td class=figure>{100 * found.upper:.3g}<td class=figure>{100 * found.gate.margin:g}"
    alarm = " class=alarm" if found.alarm else ""
    return f"<tr{alarm}><td>{escape(found.gate.name)}{counts}{bounds}<td>{escape(found.words)}</tr>"


def _entry(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"<tr><td>{at}<td>{entry.phase}<td class=figure>{entry.percent:g} %<td>{escape(entry.what)}</tr>"
