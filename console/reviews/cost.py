"""What it is expected to cost that nobody looks at an answer, by which reviews are ordered.

A server says its threshold and not the prices behind it. But of calibrated scores the best threshold is t = c_fp / (c_fp + c_fn)
(docs/decisions.md), so that with c_fp + c_fn = 1 a false alarm costs t and a miss 1 - t. A picture of score s that nobody looks
at is flagged or passes, whichever is cheaper: it costs min(s (1 - t), (1 - s) t), at most t (1 - t), where s is t. Where a bound
on missed pictures made the threshold lower than the prices would, this takes a miss for so much dearer, as whoever asked for
the bound does. Without positive labels each wrong answer costs 1, and the expected cost is 1 - confidence.
"""

from console.servers.models import Answer


def expected_cost(answer: Answer) -> float:
    """Compute the expected cost, in [0, 1]. A picture that could not be answered costs the most that one of its rule can."""
    if answer.positive:
        threshold = 0.5 if answer.threshold is None else answer.threshold
        if answer.error or answer.score is None:
            return threshold * (1 - threshold)
        return min(answer.score * (1 - threshold), (1 - answer.score) * threshold)
    return 1.0 if answer.error or answer.confidence is None else 1 - answer.confidence
