"""`python -m loadtests` runs one load test; it exits with 0 when the SLO is met, 1 when not, 2 when there was no test."""

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gevent

from loadtests import capacity, local_server, overload, pictures, processes, report, soak
from loadtests.clients import Target, only_model
from loadtests.errors import FlagsWrong, LoadTestError, TargetUnready
from loadtests.options import MOST_PER_SECOND, STEP_SECONDS, Options, parse_options
from loadtests.samples import Sample
from loadtests.shapes import arrival_times, evenly, load_shape, poisson
from loadtests.slo import Slo, load_slo
from loadtests.traffic import run_closed, run_open
from loadtests.users import MOST_REQUESTS, Load
from loadtests.verdict import judge, summarise

MET, VIOLATED, FAILED, INTERRUPTED = 0, 1, 2, 130
CAPACITY_SHARE, MOST_CAPACITY_S = 0.2, 10.0
"""How long the capacity is measured before an overload: this share of its duration, but no longer than this."""
FIRST_SHARE, PAUSE_S = 0.8, 1.0
"""A search begins at this share of what a closed loop gets; between two rates it waits so long."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one load test."""
    try:
        options = parse_options(argv)
        slo = load_slo(options.slo)  # before a server is started for it
        with _target(options) as (target, model, pid):
            run = run_test(replace(options, pid=pid), slo, target, model)
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

    if options.search == "capacity":
        found, samples = _search(options, slo, load, options.duration_s)
        return report.Run(settings, samples, slo, capacity.judge_capacity(found, slo), capacity=found)
    if options.search == "soak":
        return _soak(options, slo, load, settings)
    if options.shape.of == "capacity":
        right_per_s = _capacity(options, load())
        samples = _open(options, load(), right_per_s)
        figures = overload.measure(samples, right_per_s, options.shape.last_above_one * options.duration_s, slo)
        return report.Run(settings, samples, slo, overload.judge_overload(figures, slo), figures)
    offered_per_s = None
    if options.rate is not None:
        samples = _open(options, load(), options.rate)
        offered_per_s = options.rate * options.shape.mean
    else:
        samples = run_closed(load(), options.protocols, options.shape, options.users, options.duration_s)
    return report.Run(settings, samples, slo, judge(samples, slo, offered_per_s), offered_per_s=offered_per_s)


def _search(options: Options, slo: Slo, load: Callable[[], Load], step_s: float) -> tuple[capacity.Capacity, list[Sample]]:
    """Search the capacity; also return the samples at it or, where no rate holds, those at the last that was tried."""
    samples: dict[float, list[Sample]] = {}

    def measure(rate: float) -> capacity.Step:
        gevent.sleep(PAUSE_S)
        server_s, client_s = processes.cpu_seconds(options.pid) if options.pid else None, processes.own_cpu_seconds()
        own = samples[rate] = _open(replace(options, duration_s=step_s), load(), rate)
        if not own:  # so few a second that none was due
            return capacity.Step(rate, tuple(map(str, judge(own, slo, rate))), 0.0, math.inf)
        figures, right = summarise(own), max(1, sum(not sample.failure for sample in own))
        spent_s = None if server_s is None or options.pid is None else processes.cpu_seconds(options.pid) - server_s
        violated = tuple(map(str, judge(own, slo, rate)))
        print(f"{rate:8.1f} requests/s: {'; '.join(violated) or 'the SLO is met'}", file=sys.stderr)
        return capacity.Step(
            rate=rate,
            violated=violated,
            answered_per_s=figures.throughput_per_s,
            p99_ms=figures.latency_ms[99],
            server_cpu_s=None if spent_s is None else spent_s / right,
            client_cpu_s=(processes.own_cpu_seconds() - client_s) / right,
        )

    first = FIRST_SHARE * _capacity(replace(options, duration_s=step_s), load())
    found = capacity.search(measure, first, min(MOST_PER_SECOND, MOST_REQUESTS / step_s), processes.cores())
    return found, samples[found.per_s or found.steps[-1].rate]


def _soak(options: Options, slo: Slo, load: Callable[[], Load], settings: dict[str, str]) -> report.Run:
    """Run at a share of the capacity, or at the rate that was asked for, and judge the whole run and the memory."""
    found, rate = None, options.rate
    if rate is None:
        found, samples = _search(options, slo, load, min(STEP_SECONDS, options.duration_s))
        if not found.per_s:
            return report.Run(settings, samples, slo, capacity.judge_capacity(found, slo), capacity=found)
        rate = options.share * found.per_s
    sent = load()
    with processes.memory_watched(options.pid, sent.now) as memory:
        samples = _open(options, sent, rate)
    figures = soak.measure(samples, memory, rate, options.duration_s)
    violations = [*judge(samples, slo, rate), *soak.judge_soak(figures)]
    return report.Run(settings, samples, slo, violations, offered_per_s=rate, capacity=found, soak=figures)


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
def _target(options: Options) -> Iterator[tuple[Target, str, int | None]]:
    """Yield target, model and process: the options', otherwise a server's that runs for the block. Raises LoadTestError."""
    if options.rest or options.grpc:
        target = Target(options.rest, options.grpc, options.host, options.timeout_s)
        yield target, options.model or only_model(target), options.pid
        return
    with tempfile.TemporaryDirectory(prefix="visor-loadtest-") as folder:
        archive, key = local_server.newest_archive(), local_server.KEY
        if archive is None:
            print("no archive in model-store: training a small one on scikit-learn's digits", file=sys.stderr)
            archive, key = local_server.quick_archive(Path(folder))
        with local_server.serving(archive, key) as server:
            print(f"visor serve {archive} answers on {server.rest} and {server.grpc}, process {server.pid}", file=sys.stderr)
            yield Target(server.rest, server.grpc, timeout_s=options.timeout_s), options.model or server.model, server.pid


def _settings(options: Options, target: Target, model: str, sent: Sequence[bytes]) -> dict[str, str]:
    """Describe the run in words, for the report."""
    places = [f"REST {target.rest}" if target.rest else "", f"gRPC {target.grpc}" if target.grpc else "", target.host]
    arrivals = "evenly spaced" if options.even else f"Poisson arrivals of seed {options.seed}"
    if options.search == "capacity":
        load = f"open loops of {options.duration_s:g} s at rates that are searched, {arrivals}"
    elif options.search == "soak":
        at = f"{options.share:.0%} of the capacity" if options.rate is None else f"{options.rate:g} requests/s"
        load = f"open loop at {at}, {arrivals}"
    elif options.shape.of == "capacity":
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
