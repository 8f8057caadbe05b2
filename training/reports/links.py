"""Links between the pages of one run's folder: each names those of the others that lie beside it and are of the same images."""

import re
from pathlib import Path

from archives.files import replacing
from training import runs

TITLES = {runs.REPORT: "Evaluation", runs.CARD_PAGE: "Model card", runs.DATA_PAGE: "Data"}
"""The pages, and what a link to each is called."""
PLACE = re.compile(r"<!-- links -->.*?<!-- /links -->", re.DOTALL)
DIGEST = re.compile(r'<meta name="dataset-digest" content="(\w+)">')
NONE = "<!-- links --><!-- /links -->"


def refresh(folder: Path) -> None:
    """Write into each page of a folder links to those others that there are now."""
    texts = {page: (folder / page).read_text() for page in TITLES if (folder / page).is_file()}
    digests = {page: found[1] for page, text in texts.items() if (found := DIGEST.search(text))}
    for page, digest in digests.items():
        others = [(other, TITLES[other]) for other in digests if other != page and digests[other] == digest]
        items = "".join(f'<li><a href="{other}">{title}</a></li>' for other, title in others)
        place = f'<!-- links --><nav aria-label="Pages of this run"><ul>{items}</ul></nav><!-- /links -->' if items else NONE
        linked = PLACE.sub(place, texts[page], count=1)
        if linked != texts[page]:
            with replacing(folder / page) as temporary:
                temporary.write_text(linked)
