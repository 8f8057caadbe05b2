"""Waiting and moving traffic raise these errors, each of a stable code; `handlers.errors` draws the root.

All leave the weights unchanged; a release by evidence holds where it is and tries again, once it has begun.

VisorError
├── StartFailed               rollout.failed: the release or its canary cannot start, and says why
├── NotReady                  rollout.timeout: it did not get ready in time
├── RouteUnexpected           rollout.route: a route that is not there, or that does not share with the canary
├── RolloutMissing            rollout.missing: no record of a release by evidence, or nothing to release
├── PlanRefused               rollout.plan: steps that compare nothing, or that go back
├── RolloutBusy               rollout.busy: another process moves this release
├── RecordUnreadable          rollout.record: a record that this version cannot read
├── PrometheusUnreachable     rollout.prometheus: Prometheus does not answer, or refuses
└── ClusterError              rollout.cluster: the Kubernetes API refuses
    ├── ClusterUnreachable    rollout.unreachable: it does not answer, or not now; worth another try
    └── ClusterConflict       rollout.conflict: somebody else has changed the same object
"""

from handlers.errors import VisorError


class StartFailed(VisorError):
    """The release or its canary cannot start, and says why."""

    code = "rollout.failed"


class NotReady(VisorError):
    """The release or its canary did not get ready in time."""

    code = "rollout.timeout"


class RouteUnexpected(VisorError):
    """A route that is not there, or that does not share its requests between the stable version and the canary."""

    code = "rollout.route"


class RolloutMissing(VisorError):
    """There is no record of a release by evidence, or nothing to release."""

    code = "rollout.missing"


class PlanRefused(VisorError):
    """Steps that compare the canary with nothing, or that go back."""

    code = "rollout.plan"


class RolloutBusy(VisorError):
    """Another process moves this release."""

    code = "rollout.busy"


class RecordUnreadable(VisorError):
    """A record of a release that this version cannot read."""

    code = "rollout.record"


class PrometheusUnreachable(VisorError):
    """Prometheus does not answer, or refuses."""

    code = "rollout.prometheus"


class ClusterError(VisorError):
    """The Kubernetes API refuses."""

    code = "rollout.cluster"


class ClusterUnreachable(ClusterError):
    """The Kubernetes API does not answer, or not now."""

    code = "rollout.unreachable"


class ClusterConflict(ClusterError):
    """Somebody else has changed the same object since it was read."""

    code = "rollout.conflict"
