"""How long a release would take, from the traffic that Prometheus sees: until effects are found, and until there are none."""

from collections.abc import Iterator, Mapping

from rollout import counters, readings
from rollout.plan import ALL, Pod
from rollout.planning import requests_to_find, requests_to_prove
from rollout.prometheus import ask
from rollout.readings import Tally
from rollout.setup import Order, gates_of
from rollout.steps import compared

OVER = "10m"
EFFECTS = {"errors": 0.02, "refusals": 0.02, "slow": 0.05, "slower": 0.05, "flagged": 0.05, "reviewed": 0.05}
"""How much more of each is told about."""


def forecast(order: Order, pods: Mapping[str, Pod]) -> Iterator[str]:
    """Say, line by line, how many requests and how much time each effect needs. Raises PrometheusUnreachable."""
    stable = sorted(name for name, pod in pods.items() if pod.track == "stable")
    sums: Tally = {}
    for tally in readings.tallies(ask(order.prometheus, readings.query_of(order.namespace, stable))).values():
        sums = {what: sums.get(what, 0) + tally.get(what, 0) for what in sums.keys() | tally.keys()}
    chosen = f'namespace="{order.namespace}",pod=~"{"|".join(stable)}"'
    drawn = readings.DRAWS in sums
    rated = {
        "requests": "visor_request_seconds_count",
        "answers": "visor_request_seconds_count",  # nearly all of them
        "images": "visor_drawn_images_total" if drawn else "visor_decisions_total",
    }
    asked = {unit: f"sum(rate({metric}{{{chosen}}}[{OVER}]))" for unit, metric in rated.items()}
    rates = {unit: sum(rate for _, rate in ask(order.prometheus, query)) for unit, query in asked.items()}
    if not rates["requests"]:
        yield f"the stable release had no requests in {OVER}; without any, the canary stays at its first step"
        return
    first, last = compared(order.steps)
    yield f"at {rates['requests']:.3g} requests/s, of which the canary gets {first} % at first and {last} % at last:"
    if not drawn:
        yield f"  {counters.ALL_COUNTED}"
    gates = gates_of(order)
    for gate in gates:
        if effect := EFFECTS.get(gate.name):
            base = base_of(gate.name, sums, order.bound_s)
            found = _told(requests_to_find(gate, base, effect, first / ALL, order.alpha / len(gates)), rates[gate.unit] * first)
            known = _told(requests_to_prove(gate, base, last / ALL, order.alpha), rates[gate.unit] * last)
            yield f"  {gate.name:9} {100 * base:.3g} % now; {100 * effect:g} points more: found after {found}"
            yield f"  {'':9} less than {100 * gate.margin:g} points more: known after {known}"


def base_of(gate: str, sums: Tally, bound_s: float) -> float:
    """The stable release's share of a gate's events, of all that its pods have counted; of `slower`, what its definition says."""
    if gate == "slower":
        return 1 - counters.P95
    counted = counters.gates_of(sums, {}, bound_s, None, readings.DRAWS in sums)[gate][0]
    return counted.events / counted.total if counted.total else 0.0


def _told(requests: int | None, percent_rate: float) -> str:
    """So many of the canary's, and the time that they take. `percent_rate`: all requests a second, times the canary's percent."""
    if requests is None or not percent_rate:
        return "no number of requests"
    seconds = requests * ALL / percent_rate
    text = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
    return f"about {requests:,} of the canary's, {text}"
