"""An answer's drift bins are what the archive's reference says, or the answer is not believed."""

from typing import Any

import orjson
import pytest

from tests.unit.transformer.conftest import ANSWER
from transformer.errors import UpstreamFailed
from transformer.upstream.image_answers import ImageAnswer

BINS = (10, 2, 3)


@pytest.mark.parametrize("drift", [[0, 0, 0], [9, 1, 2]])
def test_a_bin_of_each_figure_is_taken(spec, drift: list[int]) -> None:
    assert ImageAnswer.parse({**ANSWER, "drift": drift}, spec, BINS).drift == tuple(drift)


@pytest.mark.parametrize(
    "drift",
    [
        *(None, [], [0, 0], [0, 0, 0, 0]),
        *([10, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, -1], [0, 0, 256], [0, 0, 2**70]),
        *([0, 0, 1.0], [0, 0, None], [0, 0, "0"], [0, 0, [0]], "000", 3, 10**18, {"0": 0, "1": 0, "2": 0}),
    ],
)
def test_what_is_none_is_refused(spec, drift: Any) -> None:
    with pytest.raises(UpstreamFailed, match="the handler's answer cannot be read"):
        ImageAnswer.parse({**ANSWER, "drift": drift}, spec, BINS)


def test_without_a_reference_there_are_none(spec) -> None:
    assert ImageAnswer.parse(ANSWER, spec).drift is None
    assert ImageAnswer.parse(orjson.loads(orjson.dumps({**ANSWER, "drift": None})), spec).drift is None
    with pytest.raises(UpstreamFailed):
        ImageAnswer.parse(ANSWER, spec, BINS)
