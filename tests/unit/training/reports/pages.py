"""What every page must have, whatever it reports."""

import re


def check_style(html: str) -> None:
    """The style sheet of all pages is in it, and no tag of the templates is left over."""
    assert "{%" not in html
    assert "{{" not in html
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert re.search(r"^\s*body \{ margin: 0; background: var\(--paper\);", style, re.MULTILINE)
    assert "--paper: #fbfbfa;" in style
