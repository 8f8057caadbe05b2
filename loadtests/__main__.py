"""`python -m loadtests` runs one load test; it exits with 0 when the SLO is met, 1 when not, 2 when there was no test."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtests import local_server, overload, pictures, report
from loadtests.clients import Target, only_model
from loadtests.errors import FlagsWrong, LoadTestError, TargetUnready
from loadtests.options import Options, parse_options
from loadtests.samples import Sample
from loadtests.shapes import arrival_times, evenly, load_shape, poisson
from loadtests.slo import Slo, load_slo
from loadtests.traffic import run_closed, run_open
from loadtests.users import MOST_REQUESTS, Load
from loadtests.verdict import judge, summarise

MET, VIOLATED, FAILED, INTERRUPTED = 0, 1, 2, 130
CAPACITY_SHARE, MOST_CAPACITY_S = 0.2, 10.0
"""How long the capacity is measured before an overload: this share of its duration, but no longer than this."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one load test."""
    try:
        options = parse_options(argv)
        slo = load_slo(options.slo)  # before a server is started for it
        with _target(options) as (target, model):
            run = run_test(options, slo, target, model)
    except LoadTestError as err:
        print(f"loadtests: {err}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("loadtests: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"{report.to_text(run)}\nreport: {report.save(run, options.out)}")
    return VIOLATED if run.violations else MET


def run_test(options: Options, slo: Slo, target: Target, model: str) -> report.Run:
    """Send the load and judge it. Raises LoadTestError where nothing can be sent."""
    sent = pictures.read([options.pictures] if options.pictures else pictures.generate())
    settings = _settings(options, target, model, sent)

    def load() -> Load:
        return Load(target, model, sent, options.explain)

    if options.shape.of == "capacity":
        capacity = _capacity(options, load())
        samples = _open(options, load(), capacity)
        figures = overload.measure(samples, capacity, options.shape.last_above_one * options.duration_s, slo)
        return report.Run(settings, samples, slo, overload.judge_overload(figures, slo), figures)
    offered_per_s = None
    if options.rate is not None:
        samples = _open(options, load(), options.rate)
        offered_per_s = options.rate * options.shape.mean
    else:
        samples = run_closed(load(), options.protocols, options.shape, options.users, options.duration_s)
    return report.Run(settings, samples, slo, judge(samples, slo, offered_per_s), offered_per_s=offered_per_s)


def _capacity(options: Options, load: Load) -> float:
    """Measure the right answers a second in a closed loop. Raises TargetUnready when there is none."""
    samples = run_closed(load, options.protocols, load_shape("steady"), options.users, _capacity_s(options))
    figures = summarise(samples)
    if figures.throughput_per_s == 0:
        raise TargetUnready(f"none of {figures.requests} requests was answered right: {figures.failures}")
    return figures.throughput_per_s


def _capacity_s(options: Options) -> float:
    return min(MOST_CAPACITY_S, CAPACITY_SHARE * options.duration_s)


def _open(options: Options, load: Load, rate: float) -> list[Sample]:
    """Run an open loop of `rate`, divided evenly among the protocols. Raises FlagsWrong above the bound on requests."""
    expected = rate * options.shape.mean * options.duration_s
    if expected > MOST_REQUESTS:
        raise FlagsWrong(f"{expected:.0f} requests are more than {MOST_REQUESTS}; lower --rate or --duration")
    share = rate / len(options.protocols)
    due = {
        name: arrival_times(options.shape, share, options.duration_s, evenly() if options.even else poisson(options.seed + n))
        for n, name in enumerate(options.protocols)
    }
    return run_open(load, due)


@contextmanager
def _target(options: Options) -> Iterator[tuple[Target, str]]:
    """Yield target and model: those of the options, otherwise a server that runs for the block. Raises LoadTestError."""
    if options.rest or options.grpc:
        target = Target(options.rest, options.grpc, options.host, options.timeout_s)
        yield target, options.model or only_model(target)
        return
    with tempfile.TemporaryDirectory(prefix="visor-loadtest-") as folder:
        archive, key = local_server.newest_archive(), local_server.KEY
        if archive is None:
            print("no archive in model-store: training a small one on scikit-learn's digits", file=sys.stderr)
            archive, key = local_server.quick_archive(Path(folder))
        with local_server.serving(archive, key) as server:
            print(f"visor serve {archive} answers on {server.rest} and {server.grpc}, process {server.pid}", file=sys.stderr)
            yield Target(server.rest, server.grpc, timeout_s=options.timeout_s), options.model or server.model


def _settings(options: Options, target: Target, model: str, sent: Sequence[bytes]) -> dict[str, str]:
    """Describe the run in words, for the report."""
    places = [f"REST {target.rest}" if target.rest else "", f"gRPC {target.grpc}" if target.grpc else "", target.host]
    arrivals = "evenly spaced" if options.even else f"Poisson arrivals of seed {options.seed}"
    if options.shape.of == "capacity":
        load = f"open loop after {options.users} users in a closed one for {_capacity_s(options):g} s, {arrivals}"
    elif options.rate is not None:
        load = f"open loop, {options.rate:g} requests/s, {arrivals}"
    else:
        load = f"closed loop, {options.users} users"
    return {
        "target": ", ".join(filter(None, places)),
        "model": model,
        "protocols": ", ".join(options.protocols),
        "load": load,
        "shape": f"{options.shape_name}: {options.shape.about}; {options.duration_s:g} s",
        "pictures": f"{len(sent)} of {min(map(len, sent)) >> 10} to {max(map(len, sent)) >> 10} KiB",
        "heat maps": f"{options.explain:.0%} of the requests",
        "timeout": f"{options.timeout_s:g} s",
    }


if __name__ == "__main__":
    sys.exit(main())
