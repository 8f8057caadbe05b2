"""Which metrics and labels a query names: what a reader of PromQL without a parser can see of it."""

import re
from collections.abc import Iterator

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
FUNCTIONS = {
    "absent", "clamp_min", "count", "histogram_quantile", "increase", "last_over_time", "ln", "max", "rate", "sum",
    "topk", "vector",
}  # fmt: skip


def metrics(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a query, with the labels that it is chosen by."""
    for name, matchers in SELECTOR.findall(STRING.sub('""', query)):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def groupings(query: str) -> set[str]:
    """The labels that the query groups or joins by."""
    found = ",".join(GROUPING.findall(STRING.sub('""', query)))
    return {label for label in re.split(r"[\s,]+", found) if label}


def unknown(query: str) -> set[str]:
    """Words that are no metric with its braces, no label, no function and no keyword: a metric without braces is one."""
    rest = GROUPING.sub(" ", SELECTOR.sub(" ", STRING.sub('""', query)))
    rest = re.sub(r"\[[^\]]*\]|offset \w+|\b\d[\w.]*", " ", rest)
    return set(re.findall(r"[a-zA-Z_:$][\w:]*", rest)) - WORDS - FUNCTIONS
