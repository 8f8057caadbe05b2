"""The page of `make watch`: the boards of Grafana for one machine, drawn in the browser out of Prometheus's own answers.

Prometheus serves it as one of its console templates, so that it may ask without leave; nothing is loaded from elsewhere.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from watch.boards import DRIFT
from watch.queries import Board, fill

TEMPLATE = Path(__file__).with_name("page.html")
LEAST_S = 60
"""The shortest window of a rate, in seconds, where scrapes come often."""


def page(boards: Sequence[Board], selector: str, limits: Mapping[str, float], interval_s: int) -> str:
    """The page's HTML. `limits`: the SLO's numbers by the names that panels have for them. `$window` is the page's to fill in.

    `interval_s`: between two scrapes. A rate needs two of them in its window, and looks at four, as Grafana's `$__rate_interval`.
    """
    data = [
        {
            "title": board.title,
            "about": board.about,
            "drift": board is DRIFT,
            "panels": [
                {
                    "title": panel.title,
                    "about": panel.about,
                    "unit": panel.queries[0].unit,
                    "limit": limits[panel.limit] if isinstance(panel.limit, str) else panel.limit,
                    "queries": [
                        {"name": query.name, "by": query.by, "text": fill(query.text, selector=selector)}
                        for query in panel.queries
                    ],
                }
                for panel in board.panels()
                if not any(query.external for query in panel.queries)
            ],
        }
        for board in boards
    ]
    # Neither the end of the script nor, to Prometheus, the beginning of an action.
    text = json.dumps(data).replace("<", "\\u003c").replace("{{", "{ {")
    template = TEMPLATE.read_text().replace("LEAST_S", str(max(LEAST_S, 4 * interval_s)), 1)
    return template.replace("BOARDS", text, 1)
