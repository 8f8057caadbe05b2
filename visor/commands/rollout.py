"""`visor rollout`: release a canary by evidence, look at such a release, and order something of it."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from rollout.flags import add_release, add_start, order_of
from visor.commands.arguments import Commands, add_command, list_commands, output

if TYPE_CHECKING:
    from rollout.cluster import Cluster
    from rollout.record import Record

ENDED = 3
"""The exit code of a release that ended without a promotion."""
ORDERS = {
    "pause": "Take no further step, until it is resumed. The canary keeps its share, and is still rolled back on an alarm or a "
    "failure.",
    "resume": "Go on with a release that was paused, or whose weights somebody else had moved. The canary gets its step's share.",
    "promote": "Promote the canary now, whatever the evidence says. It gets all requests, and the stable release its archive.",
    "abort": "Take the canary's requests away, and end the release. The canary itself stays.",
}


def add(commands: Commands) -> None:
    """Declare the command and its verbs."""
    rollout = commands.add_parser("rollout", formatter_class=argparse.RawDescriptionHelpFormatter)
    rollout.description = (
        "Release a canary on Kubernetes by evidence: step by step, promoted or rolled back by tests of what it does. Each verb "
        "is a command of its own."
    )
    verbs = rollout.add_subparsers(
        required=True, metavar="VERB", help="what to do, one of the verbs below; `visor rollout VERB --help` describes it"
    )
    start = add_command(
        verbs,
        "start",
        _start,
        "Move a canary's share step by step, and promote it or roll it back. Says how long effects would take to be found in the "
        "traffic that Prometheus sees, then goes on until the release has ended, and logs what it does. The release's record is "
        "in the cluster: after an interruption the same command goes on from there.",
        exits="Exit codes: 0 promoted, or a dry run; 3 rolled back, aborted or overtaken by another change; 1 an error, printed "
        "to standard error as `visor: CODE: sentence`; 2 a mistyped command line; 130 interrupted.",
        resumes=True,
    )
    add_start(start)
    status = add_command(
        verbs,
        "status",
        _status,
        "Print how a release stands: its phase, the canary's share, what it waits for, and each gate's figures.",
    )
    add_release(status)
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the record as one JSON object (default: text to read)")
    form.add_argument(
        "--values",
        action="store_true",
        help="print the values by which Helm knows what was promoted, for `helm upgrade --values -` (default: text to read)",
    )
    status.add_argument(
        "--html",
        type=output(".html", ".htm"),
        metavar="FILE.html",
        help="write a page with the figures and all that happened (default: no page)",
    )
    status.add_argument(
        "--metrics",
        type=output(".prom"),
        metavar="FILE.prom",
        help="file to write the figures to as Prometheus metrics, for the node exporter's textfile collector "
        "(default: no metrics are written)",
    )
    for verb, what in ORDERS.items():
        add_release(add_command(verbs, verb, _order, what))
        verbs.choices[verb].set_defaults(verb=verb)
    rollout.epilog = list_commands("verbs", verbs.choices.items())


@contextmanager
def _cluster(args: argparse.Namespace) -> "Iterator[Cluster]":
    from rollout.cluster import Cluster

    with closing(Cluster(args.namespace)) as cluster:
        yield cluster


def _start(args: argparse.Namespace) -> int:
    """Release, and print how it ended."""
    from rollout import dry_run, record
    from rollout.run import run

    order = order_of(args)
    with _cluster(args) as cluster:
        for line in dry_run.outlook(cluster, order):
            print(line, flush=True)
        if args.dry_run:
            return 0
        args.begun = True
        ended = run(cluster, order)
    print(record.sentence(ended))
    return 0 if ended.state.phase == "promoted" else ENDED


def _status(args: argparse.Namespace) -> int:
    """Print the record, in the form that is asked for."""
    from archives.files import naming
    from rollout import page, report
    from visor.outputs import check_output

    for file in filter(None, (args.html, args.metrics)):
        check_output(file)
    known = _read(args)
    if args.html:
        with naming(args.html):
            args.html.write_text(page.page(args.name, known))
    if args.metrics:
        with naming(args.metrics):
            args.metrics.write_text(report.metrics(args.name, args.namespace, known))
    if args.json:
        print(json.dumps(report.to_json(known), indent=2))
    elif args.values:
        print(json.dumps(report.values(known), indent=2))
    else:
        print(report.text(args.name, known, time.time()))
    return 0


def _order(args: argparse.Namespace) -> int:
    """Write the order into the record, and say who obeys it."""
    from rollout import record
    from rollout.lease import LEASE_S

    with _cluster(args) as cluster:
        known = record.Store(cluster, args.name).order(args.verb, time.time())
    if not known.holder or time.time() - known.held_at > LEASE_S:
        print(f"ordered; nobody moves {args.name} now, and `visor rollout start` obeys it first")
    else:
        print(f"ordered of {known.holder}")
    return 0


def _read(args: argparse.Namespace) -> "Record":
    from rollout import record
    from rollout.errors import RolloutMissing

    with _cluster(args) as cluster:
        known, _ = record.Store(cluster, args.name).read()
    if known is None:
        raise RolloutMissing(f"{args.name} has no release by evidence; `visor rollout start` begins one")
    return known
