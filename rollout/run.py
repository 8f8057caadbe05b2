"""The loop that moves a release by evidence: look, decide, write the record, act.

The record is written before anything is done about it, so that a loop that was killed finds in it what it wanted, does that, and
counts on from the values that it had read. Whoever else writes a share or an archive wins, and is named.
"""

import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rollout import counters, drift, readings, record, succession, tracks
from rollout.absence import is_gone
from rollout.cluster import Cluster
from rollout.errors import (
    ClusterConflict,
    ClusterError,
    ClusterUnreachable,
    PrometheusUnreachable,
    RecordUnreadable,
    RolloutBusy,
    RolloutMissing,
    RouteUnexpected,
)
from rollout.events import event_of
from rollout.evidence import Evidence
from rollout.gates import Count
from rollout.lease import LEASE_S, Lease, steady
from rollout.plan import FINAL, Adopt, Move, Plan, Scale, Seen, Share, Sight, State
from rollout.prometheus import ask
from rollout.record import Entry, Record
from rollout.setup import Order, gates_of
from rollout.steps import advance, moves

logger = logging.getLogger(__name__)

POLL_S = 2.0
"""Between two looks at the cluster; counters are looked at less often, as Prometheus does."""
REFUSED_S = 60.0
"""For so long a refusal is tried again: a token is renewed, a role that was replaced comes back."""
UNDONE_S = 60.0
"""Within which writes of a share that were undone are counted together."""


def run(
    cluster: Cluster, order: Order, now: Callable[[], float] | None = None, sleep: Callable[[float], None] = time.sleep
) -> Record:
    """Move the release until it is promoted, rolled back or given up; what the record says then.

    Raises RolloutMissing, RolloutBusy, RecordUnreadable and ClusterError.
    """
    now = now or steady()
    loop = Loop(cluster, order, now())
    try:
        while not loop.turn(now()):
            sleep(POLL_S)
    finally:
        loop.leave()
    return loop.known()


class Loop:
    """One process's part in a release. `turn` is one look and what follows of it."""

    def __init__(self, cluster: Cluster, order: Order, now: float, holder: str = "") -> None:
        self._cluster, self._order, self._started = cluster, order, now
        self._store = record.Store(cluster, order.name)
        # The next container of a pod has its host's name and its process's number again.
        self._me = holder or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._tracks: tracks.Tracks | None = None
        self._record: Record | None = None
        self._lease = Lease(order.name, self._me)
        self._refused: float | None = None
        self._shares: list[tuple[float, int]] = []  # that were written, and when
        self._said = ""

    def known(self) -> Record:
        """The record. Raises RolloutMissing before there is one."""
        if self._record is None:
            raise RolloutMissing(f"{self._order.name} has no release by evidence yet")
        return self._record

    def turn(self, now: float) -> bool:
        """Look once, decide and act; whether all is done. What may pass by itself is logged, and tried again."""
        try:
            done = self._turn(now)
        except (ClusterUnreachable, ClusterConflict, RouteUnexpected) as err:
            self._say(str(err))
            return False
        except ClusterError as err:
            self._refused = now if self._refused is None else self._refused
            if now - self._refused >= REFUSED_S:
                raise
            self._say(f"{err}; this is tried again for {REFUSED_S:g} s")
            return False
        self._refused = None
        return done

    def leave(self) -> None:
        """Let another loop have the release at once, as far as the cluster can be told."""
        if self._record is None:
            return
        try:
            there, _ = self._store.read()
            if there is not None and there.holder == self._me:
                self._write(replace(self._record, holder=""))
        except (ClusterError, RecordUnreadable, RolloutBusy) as err:
            logger.info("the record still names this loop: %s", err)

    def _turn(self, now: float) -> bool:
        if self._tracks is None or self._record is None:  # before it begins, the release may not be there yet
            self._tracks = tracks.tracks_of(self._cluster, self._order.name, self._order.routes, self._order.manager)
        sight = self._tracks.see()
        if self._record is None:
            self._record = self._begun(sight, now)
        if self._record is None:
            return False
        if self._record.state.phase in FINAL and self._record.state.percent == self._record.state.target:
            return True
        there, order = self._store.read()
        before = self._record
        if there is not None and there.holder not in ("", self._me) and there.held_at != before.held_at:
            raise RolloutBusy(f"{there.holder} moves {self._order.name} now")
        looked, counts = self._look(before, sight, now)
        looked, drifted = self._drift(looked, sight, counts, now)
        undone = self._undone(before.state, now)
        seen = replace(_seen(looked, sight, counts, order, now), drifted=drifted, undone=undone)
        state = advance(before.plan, before.state, seen)
        after = replace(looked, state=state)
        if state.absent is None:  # else there was nothing to see, and nothing to obey by
            after = replace(after, obeyed=order, stable_restarts=dict(sight.stable_restarts))
        after = self._told(before, after, now)
        held = 0 <= now - before.held_at < LEASE_S / 3
        if after.looked != before.looked or not held or _key(after) != _key(before):
            self._write(replace(after, holder=self._me, held_at=now))
            self._publish(before, after)
        else:
            self._record = replace(after, holder=before.holder, held_at=before.held_at)
        self._say(record.sentence(after))
        lacking = moves(after.plan, state, seen)
        if is_gone(state, now) and lacking:
            self._take_share(self._tracks, lacking, now)
            return True
        for move in lacking:
            self._do(self._tracks, move)
            if isinstance(move, Share):
                self._shares.append((now, move.percent))
        return state.phase in FINAL and not lacking and (state.absent is None or is_gone(state, now))

    def _take_share(self, on: tracks.Tracks, lacking: Sequence[Move], now: float) -> None:
        """Take the share of a canary that is gone away, where a route is left that gives it one."""
        try:
            for move in lacking:
                self._do(on, move)
        except RouteUnexpected as err:
            logger.info("%s", err)
        after = replace(self.known(), state=replace(self.known().state, percent=0.0))
        self._write(after.told(now, "the canary's share is 0 % now"))

    def _undone(self, state: State, now: float) -> int:
        """How often the share that is wanted was written in the last minute: where it is not in force, so often it was undone."""
        if state.phase == "yielded":
            self._shares.clear()
        self._shares = [(at, percent) for at, percent in self._shares if 0 <= now - at <= UNDONE_S]
        return sum(percent == state.target for _, percent in self._shares)

    def _begun(self, sight: Sight, now: float) -> Record | None:
        """The record to go on with, or a new one; None while there is nothing to release yet, or another loop is at work."""
        known, order = self._store.read()
        if known is not None and self._lease.is_held(known, now):
            return None
        if known is not None and not (sight.canary and sight.stable) and succession.is_under_way(known, self._order):
            return known
        if not sight.canary or not sight.stable or self._order.archive not in (None, sight.canary):
            self._wait(now, f"a canary of {self._order.archive}" if self._order.archive else "a canary")
            return None
        plan = Plan(
            sight.stable,
            sight.canary,
            self._order.steps,
            self._order.ready_s,
            isinstance(self._tracks, tracks.Knative),
            sight.stable_args,
            sight.canary_args,
            self._order.attempt,
        )
        if known is not None and succession.same(known, plan):
            return succession.gone_on(known, plan, self._order, now)
        if self._order.stable_archive not in (None, sight.stable):
            self._wait(now, f"the archive {self._order.stable_archive}")
            return None
        evidence = Evidence.begin(gates_of(self._order), self._order.alpha)
        state = State(now, 0.0 if sight.percent is None else sight.percent, evidence, restarts=dict(sight.restarts))
        earlier: tuple[Entry, ...] = ()
        if known is not None:
            ended = Entry(now, known.state.phase, known.state.percent, f"{known.plan.canary}: {record.sentence(known)}")
            earlier = (*known.earlier, ended)[-record.EARLIER :]
        held = (known.holder, known.held_at) if known is not None else ("", 0.0)
        new = Record(plan, state, obeyed=order, holder=held[0], held_at=held[1], earlier=earlier)
        return new.told(now, f"{plan.canary} is to take the place of {plan.stable}")

    def _wait(self, now: float, what: str) -> None:
        """Say what the release lacks to begin. Raises RolloutMissing once that has lasted."""
        if now - self._started >= self._order.ready_s:
            raise RolloutMissing(f"{self._order.name} does not have {what}; docs/rollout.md says how a release begins")
        self._say(f"waiting until {self._order.name} has {what}")

    def _look(self, known: Record, sight: Sight, now: float) -> tuple[Record, dict[str, tuple[Count, Count]]]:
        """Read the counters where it is time to; the record with them, and what they say happened."""
        if now < known.looked:
            logger.warning(
                "the clock says %.0f s less than at the last look at the counters; they are looked at now", known.looked - now
            )
        if 0 <= now - known.looked < self._order.every_s or known.state.phase in FINAL or not sight.pods_of:
            return known, {}
        try:
            query = readings.query_of(self._order.namespace, sight.pods_of)
            sources = known.counters.sources if known.counters else {}
            read = readings.by_pod(ask(self._order.prometheus, query), sources)
        except PrometheusUnreachable as err:
            return replace(known, looked=now, missing=str(err)), {}
        restarts = {**sight.stable_restarts, **sight.restarts}
        there, counted, missing = counters.look(known.counters, read, sight.pods_of, now, self._order.bound_s, restarts)
        return replace(known, counters=there, looked=now, missing=missing), counted

    def _drift(self, known: Record, sight: Sight, counts: Mapping[str, object], now: float) -> tuple[Record, str]:
        """Ask for the canary's drift where its images have doubled since; the record with that, and what is said."""
        images = known.state.evidence.tests["flagged"].seen[1] if counts else 0
        if images < max(drift.FIRST, 2 * known.judged):
            return known, ""
        try:
            said = drift.look(self._order.prometheus, self._order.namespace, sight.pods_of, now - known.state.began)
        except PrometheusUnreachable:
            return known, ""  # the next look asks again
        return replace(known, judged=int(images)), said

    def _told(self, before: Record, after: Record, now: float) -> Record:
        """The record with what has happened."""
        if (before.state.phase, before.state.reason) != (after.state.phase, after.state.reason):
            after = after.told(now, after.state.reason or after.state.phase)
        if before.state.percent != after.state.percent:
            after = after.told(now, f"the canary's share is {after.state.percent:g} % now")
        if before.missing != after.missing:
            after = after.told(now, after.missing or "Prometheus has counts of all pods again")
        for remark in counters.remarks(before.counters, after.counters):
            after = after.told(now, remark)
        return after

    def _write(self, after: Record) -> None:
        self._store.write(after)
        self._record = after

    def _publish(self, before: Record, after: Record) -> None:
        """An event on the InferenceService for each thing that happened; that one is not taken is no reason to stop."""
        for entry in after.history[len(before.history) :] if len(before.history) < record.HISTORY else after.history[-1:]:
            logger.info("%s", entry.what)
            try:
                self._cluster.create_event(event_of(self._order, entry, bool(after.missing)))
            except ClusterError as err:
                logger.warning("no event was written: %s", err)

    def _do(self, on: tracks.Tracks, move: Move) -> None:
        match move:
            case Share(percent):
                on.share(percent)
                logger.info("the canary is given %d %% of the requests", percent)
            case Scale(pods):
                on.scale(pods)
                logger.info("the canary is given %d pods", pods)
            case Adopt(archive, arguments):
                on.adopt(archive, arguments)
                logger.info("the stable release is given %s", archive)

    def _say(self, what: str) -> None:
        """Log what is new; that a count has grown is not."""
        new = re.sub(r"\d+", "", what)
        if new != self._said:
            logger.info("%s", what)
        self._said = new


def _seen(known: Record, sight: Sight, counts: Mapping[str, tuple[Count, Count]], order: str, now: float) -> Seen:
    """Put together what was seen. A first look at the stable pods' restarts shakes nothing."""
    last = known.stable_restarts or {}
    return Seen(
        **vars(sight),
        now=now,
        shaken=any(count > last.get(pod, count) for pod, count in sight.stable_restarts.items()),
        counts=counts,
        missing=known.missing if known.counters or known.missing else "no counters were read yet",
        order=record.verb_of(order) if order != known.obeyed else "",
    )


def _key(known: Record) -> tuple[object, ...]:
    """What of a record must not be lost; how far a step is, the next look at the counters tells again."""
    state = known.state
    of_state = (state.phase, state.step, state.target, state.percent, state.reason, state.failing, state.restarts)
    lasting = (state.proven, state.promoting, state.absent, state.shaken)
    return (*of_state, *lasting, known.obeyed, known.missing, known.stable_restarts)
