"""Orders that could promote without proof are refused, and gates take an order's margins."""

import pytest

from rollout.errors import PlanRefused
from rollout.plan import Step
from rollout.setup import Order, gates_of


def order(*percents: int, **margins: float) -> Order:
    return Order("roofs", "demo", "http://p", tuple(Step(percent, 60, 100) for percent in percents), margins=margins)


@pytest.mark.parametrize("percents", [(), (100,), (0,), (0, 100)])
def test_steps_that_compare_nothing_are_refused(percents: tuple[int, ...]) -> None:
    with pytest.raises(PlanRefused, match="no step compares the canary with the stable release"):
        order(*percents)


@pytest.mark.parametrize("percents", [(50, 5, 100), (5, 5), (5, 0)])
def test_steps_that_go_back_are_refused(percents: tuple[int, ...]) -> None:
    with pytest.raises(PlanRefused, match="the steps go back"):
        order(*percents)


@pytest.mark.parametrize("percents", [(5,), (5, 100), (0, 5, 50)])
def test_steps_with_a_comparison_are_taken(percents: tuple[int, ...]) -> None:
    assert len(order(*percents).steps) == len(percents)


def test_gates_have_an_order_s_margins_and_disagreement_is_the_shadow_s() -> None:
    gates = {gate.name: gate for gate in gates_of(order(5, 100, errors=0.0005))}
    assert (gates["errors"].margin, gates["errors"].tolerance) == (0.0005, 0.0005)
    assert "disagreement" not in gates
    assert "disagreement" in {gate.name for gate in gates_of(order(0, 5, 100))}
