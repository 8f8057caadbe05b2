"""The record of a release by evidence: a ConfigMap beside the release, from which a loop that was killed goes on.

ConfigMap NAME-rollout: `record.json` is the whole record, `phase`, `percent`, `stable` and `canary` are for people and for the
chart, and `order` is what `visor rollout pause` and the like write. An annotation has the state in one sentence. It is not on the
InferenceService, whose annotations KServe hands on to the pods, which it would replace with each step.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast, get_args

from rollout.counters import Counters, edge_of
from rollout.errors import ClusterConflict, RecordUnreadable, RolloutBusy, RolloutMissing
from rollout.evidence import Evidence
from rollout.plan import ALL, FINAL, Phase, Plan, State, Step, Verb

if TYPE_CHECKING:  # the console reads records without the kubernetes package
    from rollout.cluster import Cluster

FORMAT = 1
ANNOTATION = "visor.io/rollout"
HISTORY, EARLIER = 200, 20
"""Entries that are kept of a release's history, and releases before it."""
LONGEST = 1_000
"""Bytes of an entry: a ConfigMap may have 1 MiB, and a container's last words 4 KiB."""
TRIES = 5


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `at`: seconds since the epoch."""

    at: float
    phase: str
    percent: float
    what: str


@dataclass(frozen=True)
class Record:
    """All that is known of a release.

    `looked`: when counters were last read; `missing`: why they were not; `stable_restarts`: of each stable pod, how often a
    container was started again; `judged`: the canary's images when its drift was last asked for; `obeyed`: the last order;
    `holder`, `held_at`: which loop moves the release, and when it last said so; `earlier`: the ends of the releases before.
    """

    plan: Plan
    state: State
    counters: Counters | None = None
    looked: float = 0.0
    missing: str = ""
    stable_restarts: Mapping[str, int] | None = None
    judged: int = 0
    obeyed: str = ""
    holder: str = ""
    held_at: float = 0.0
    history: tuple[Entry, ...] = ()
    earlier: tuple[Entry, ...] = ()

    def told(self, at: float, what: str) -> "Record":
        """This record with one more thing that happened."""
        entry = Entry(at, self.state.phase, self.state.percent, what)
        return replace(self, history=(*self.history, entry)[-HISTORY:])

    def to_json(self) -> dict[str, Any]:
        """Make what `from_json` reads."""
        state = {**self.state.__dict__, "evidence": self.state.evidence.to_json(), "restarts": dict(self.state.restarts)}
        others = {name: value for name, value in self.__dict__.items() if name not in ("plan", "state", "counters")}
        return {
            "format": FORMAT,
            "plan": asdict(self.plan),
            "state": state,
            "counters": asdict(self.counters) if self.counters else None,
            **others,
            "history": [_short(entry) for entry in self.history],
            "earlier": [_short(entry) for entry in self.earlier],
        }


def _short(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "what": entry.what.encode(errors="ignore")[:LONGEST].decode(errors="ignore")}


def from_json(content: Mapping[str, Any]) -> Record:
    """Read a record. Raises RecordUnreadable, also where it says what cannot be."""
    try:
        if content["format"] != FORMAT:
            raise RecordUnreadable(f"the record has format {content['format']}, and this version reads {FORMAT}")
        plan, state, others = content["plan"], content["state"], {k: v for k, v in content.items() if k != "format"}
        steps = tuple(Step(**step) for step in plan["steps"])
        arguments = {name: _texts(plan[name]) for name in ("stable_args", "canary_args")}
        known = Record(
            **{
                **others,
                "plan": Plan(**{**plan, **arguments, "steps": steps}),
                "state": State(**{**state, "evidence": Evidence.from_json(state["evidence"])}),
                "counters": Counters(**content["counters"]) if content["counters"] else None,
                "history": tuple(Entry(**entry) for entry in content["history"]),
                "earlier": tuple(Entry(**entry) for entry in content["earlier"]),
            }
        )
        _check(known)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as err:
        raise RecordUnreadable(f"the record cannot be read ({str(err)[:200] or type(err).__name__})") from err
    return known


def _check(known: Record) -> None:
    """Raise where a record says what no release wrote: ValueError, or whatever its evidence fails with."""
    state, tests = known.state, known.state.evidence.tests
    _check_types([known, known.plan, *known.plan.steps, state, *known.history, *known.earlier])
    if state.phase not in get_args(Phase):
        raise ValueError(f"there is no phase {state.phase}")
    if not 0 <= state.step < len(known.plan.steps):
        raise ValueError(f"there is no step {state.step} of {len(known.plan.steps)}")
    if not (0 <= state.percent <= ALL and 0 <= state.target <= ALL):
        raise ValueError(f"shares of {state.percent} and {state.target} % are not within 0 and {ALL}")
    if not (tests and 0 < state.evidence.alpha < 1):
        raise ValueError(f"{len(tests)} gates at {state.evidence.alpha} decide nothing")
    state.evidence.findings()
    if not all(map(_are_counts, (state.restarts, known.stable_restarts or {}))):
        raise ValueError(f"containers were started again {state.restarts} and {known.stable_restarts}")
    if known.counters:
        _check_types([known.counters])
        for tally in (*known.counters.pods.values(), known.counters.early):
            if not _are_counts(tally):
                raise ValueError(f"the counters have {tally}")
        edge_of(known.counters.early)
        _texts(known.counters.without)
        if not all(type(since) in (int, float) for since in known.counters.gone.values()):
            raise ValueError(f"pods are gone since {known.counters.gone}")
        for origin in known.counters.origins.values():
            kinds = dict.fromkeys(("scraped", "older"), (int, float)) | {"source": (str,), "restarts": (int,)}
            if set(origin) != set(kinds) or any(type(value) not in kinds[name] for name, value in origin.items()):
                raise ValueError(f"the counters are from {origin}")


def _are_counts(found: Mapping[str, Any]) -> bool:
    return all(type(count) is int and count >= 0 for count in found.values())


def _texts(found: Any) -> tuple[str, ...]:
    if type(found) is not list or not all(type(text) is str for text in found):
        raise ValueError(f"{str(found)[:100]} is no list of texts")
    return tuple(found)


def _check_types(values: Iterable[Any]) -> None:
    """Raise ValueError where a dataclass has a field of another type; what is in lists and mappings is passed over."""
    allowed: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}
    allowed[float | None] = (int, float, type(None))
    for value in values:
        for field in fields(value):
            there = getattr(value, field.name)
            if field.type in allowed and type(there) not in allowed[field.type]:
                raise ValueError(f"{field.name} of the {type(value).__name__.lower()} is {there!r}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


class Store:
    """The ConfigMap of one release, for one loop. Its methods raise ClusterError."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster, self._release = cluster, name
        # Who held the record, and when that one last said so; None before it was read or written.
        self._last_read: tuple[str, float] | None = None
        self._last_written: tuple[str, float] | None = None
        self.name = f"{name}-rollout"

    def read(self) -> tuple[Record | None, str]:
        """Read the record, None where there is none, and the last order that was given. Raises RecordUnreadable."""
        data = (self._cluster.config_map(self.name) or {}).get("data") or {}
        known = self._parsed(data)
        self._last_read = _held(known)
        return known, data.get("order", "")

    def _parsed(self, data: Mapping[str, str]) -> Record | None:
        text = data.get("record.json")
        # Not "delete it": the chart's Job may patch the ConfigMap, and cannot make another one.
        advice = f"empty its data to begin anew: kubectl patch configmap {self.name} --type merge --patch '{{\"data\":null}}'"
        try:
            return from_json(json.loads(text, parse_constant=_refuse)) if text else None
        except RecordUnreadable as err:
            raise RecordUnreadable(f"ConfigMap {self.name}: {err.args[0]}; {advice}") from err
        except (ValueError, RecursionError) as err:
            raise RecordUnreadable(f"record.json of ConfigMap {self.name} is no JSON; {advice}") from err

    def write(self, record: Record) -> None:
        """Write the record. Raises ClusterConflict where somebody else writes again and again.

        Raises RolloutBusy where another loop has written it since it was last read here: one that stood still for longer than
        its lease would undo what the other one has decided.
        """
        for _ in range(TRIES):
            found = self._cluster.config_map(self.name)
            if found is None:
                self._cluster.create_config_map({"metadata": {"name": self.name, "labels": {"visor.io/release": self._release}}})
                continue
            there = self._parsed(found.get("data") or {})
            if there is not None and self._last_read is not None and _held(there) not in (self._last_read, self._last_written):
                raise RolloutBusy(f"{there.holder or 'another loop'} has written the record of {self._release} meanwhile")
            change = {
                "metadata": {
                    "resourceVersion": found["metadata"]["resourceVersion"],
                    "annotations": {ANNOTATION: sentence(record)},
                },
                "data": {
                    "record.json": json.dumps(record.to_json(), separators=(",", ":"), ensure_ascii=False),
                    "phase": record.state.phase,
                    "percent": f"{record.state.target}",
                    "stable": record.plan.stable,
                    "canary": record.plan.canary,
                },
            }
            try:
                self._cluster.patch_config_map(self.name, change)
            except ClusterConflict:
                continue  # an order came between
            self._last_written = _held(record)
            return
        raise ClusterConflict(f"ConfigMap {self.name} changes again and again")

    def order(self, verb: Verb, at: float) -> Record:
        """Order something of the loop that moves this release; its record. Raises RolloutMissing without one, or at its end."""
        known, _ = self.read()
        if known is None:
            raise RolloutMissing(f"{self._release} has no release by evidence; `visor rollout start` begins one")
        if known.state.phase in FINAL:
            raise RolloutMissing(
                f"the release of {self._release} has ended as {known.state.phase}, and nobody would obey {verb}; "
                "`visor rollout start --attempt NUMBER` with the next number tries the same archive once more"
            )
        self._cluster.patch_config_map(self.name, {"data": {"order": f"{verb} {at:.3f}"}})
        return known


def _held(known: Record | None) -> tuple[str, float]:
    return (known.holder, known.held_at) if known is not None else ("", 0.0)


def verb_of(order: str) -> Verb:
    """The verb of an order, "" of none or one that is unknown."""
    verb = order.partition(" ")[0]
    return cast(Verb, verb) if verb in ("pause", "resume", "promote", "abort") else ""


def sentence(record: Record) -> str:
    """The state in one sentence."""
    state = record.state
    share = f"{state.percent:g} %" if state.percent == state.target else f"{state.percent:g} % on the way to {state.target} %"
    told = "; ".join(filter(None, [state.reason, state.held and f"waits: {state.held}"]))
    return f"{state.phase} at {share}" + (f": {told}" if told else "")
