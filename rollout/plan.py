"""What a release by evidence is made of: its plan, its state, what a look has seen, and what may be done. Values alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rollout.evidence import Evidence
from rollout.gates import Count

Phase = Literal["waiting", "stepping", "paused", "yielded", "promoting", "promoted", "rolled-back", "aborted", "superseded"]
Verb = Literal["", "pause", "resume", "promote", "abort"]
FINAL = frozenset[Phase]({"promoted", "rolled-back", "aborted", "superseded"})
ALL = 100


@dataclass(frozen=True)
class Step:
    """A share of the requests, and how many seconds and requests of the canary it lasts at least.

    `percent` 0 is the shadow: users are answered by the stable release, and images that the canary was sent are counted.
    """

    percent: int
    seconds: float
    requests: int


@dataclass(frozen=True)
class Plan:
    """What is to be released, and how. `stable`, `canary`: archives' URIs; in Knative mode `stable` is the revision's name.

    `stable_args`, `canary_args`: arguments of their pods, a digest, which go with the archive; `attempt`: tells a second try of
    the same archives from the first; `ready_s`: seconds within which the canary must be ready.
    """

    stable: str
    canary: str
    steps: tuple[Step, ...]
    ready_s: float = 240.0
    knative: bool = False
    stable_args: tuple[str, ...] = ()
    canary_args: tuple[str, ...] = ()
    attempt: int = 1

    @property
    def identity(self) -> tuple[str, str, int]:
        """What makes it another release; its steps and margins may change under way."""
        return self.stable, self.canary, self.attempt


@dataclass(frozen=True)
class Pods:
    """Pods of both tracks. `stable`, `canary`: how many are asked for; `ready`: of the canary's; `fixed`: no scaler sets them."""

    stable: int = 1
    canary: int = 1
    ready: int = 1
    fixed: bool = True


@dataclass(frozen=True)
class Pod:
    """A pod of one of the tracks. `started`: seconds since the epoch."""

    track: str
    started: float
    ready: bool = True


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one look at the cluster found.

    `percent`: the share that the routes give, None where they differ among themselves; `by`: who wrote it last; `stable`,
    `canary`: the archives that are named now; `stable_args`, `canary_args`: as in `Plan`; `failure`, `unready`: why the canary
    fails, or is not ready; `replaced`: what its next pod waits for, where the last one was taken away and did not fail;
    `settling`: what the stable release still waits for on its way to the archive that it names; `restarts`, `stable_restarts`:
    of each pod of a track, how often a container was started again; `pods_of`: every live pod of both tracks, by its name.
    """

    percent: float | None = None
    by: str = ""
    stable: str = ""
    canary: str = ""
    stable_args: tuple[str, ...] = ()
    canary_args: tuple[str, ...] = ()
    failure: str = ""
    unready: str = ""
    replaced: str = ""
    settling: str = ""
    pods: Pods = field(default_factory=Pods)
    restarts: Mapping[str, int] = field(default_factory=dict)
    stable_restarts: Mapping[str, int] = field(default_factory=dict)
    pods_of: Mapping[str, Pod] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seen(Sight):
    """What there is to decide by: a look at the cluster, at the counters and at the orders.

    `shaken`: whether a container of a stable pod was started again, too, since the last look; `drifted`: that the canary's
    images, and not the stable release's, are unlike those that it was calibrated with; `counts`: events of canary and stable
    release by gate since the last look, empty between two looks; `missing`: why there are none; `undone`: how often, lately, the
    share that is wanted was written and was not there at the next look.
    """

    now: float
    shaken: bool = False
    drifted: str = ""
    counts: Mapping[str, tuple[Count, Count]] = field(default_factory=dict)
    missing: str = ""
    order: Verb = ""
    undone: int = 0


@dataclass(frozen=True)
class State:
    """How far a release is; times are seconds since the epoch.

    `step`: the plan's that is under way; `since`: when its share came into force, or its promotion was ordered, 0 before the
    first step; `requests`: the canary's in it; `percent`: the share that was in force when it was last looked at; `target`: the
    one that is wanted; `held`: why it goes no further; `reason`: why it is in its phase; `failing`: since when a canary without
    requests fails; `restarts`: as last seen; `proven`: whether it was, when its share went to 100 %; `promoting`: whether its
    promotion has begun, also while it is paused; `absent`: since when one of the tracks is not there; `shaken`: when a
    container of a stable pod was last started again.
    """

    began: float
    percent: float
    evidence: Evidence
    phase: Phase = "waiting"
    step: int = 0
    since: float = 0.0
    requests: int = 0
    target: int = 0
    held: str = ""
    reason: str = ""
    failing: float | None = None
    restarts: Mapping[str, int] = field(default_factory=dict)
    proven: bool = False
    promoting: bool = False
    absent: float | None = None
    shaken: float | None = None


@dataclass(frozen=True)
class Share:
    """Give the canary this share of the requests."""

    percent: int


@dataclass(frozen=True)
class Scale:
    """Give the canary so many pods."""

    pods: int


@dataclass(frozen=True)
class Adopt:
    """Give the stable release this archive, and its pods the arguments that go with it."""

    archive: str
    arguments: tuple[str, ...]


Move = Share | Scale | Adopt
