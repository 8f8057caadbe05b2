"""Run Prometheus beside a `visor serve` on this machine, with the chart's alerts and a page of the dashboards' queries.

Prometheus listens on loopback alone; its data are in a folder that goes with it, unless --storage names one.
"""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from transformer.flags import at_least, port
from watch.alerts import ALERTS, group
from watch.boards import BOARDS
from watch.page import page

ROOT = Path(__file__).parents[1]
SELECTOR = 'job="visor"'
RUNBOOKS = (ROOT / "docs/runbooks.md").as_uri()
READY_S = 30.0
MOST_S = 60
"""Between two scrapes, as the alerts' shortest window is five minutes."""


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus. `address`: HOST:PORT of its API and page; `log`: the file that it writes."""

    process: "subprocess.Popen[bytes]"
    address: str
    log: Path

    @property
    def page(self) -> str:
        """The page's URL."""
        return f"http://{self.address}/consoles/visor.html"

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


def main(argv: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="make watch", description=__doc__)
    parser.add_argument("targets", nargs="*", default=["127.0.0.1:8080"], metavar="HOST:PORT", help="servers' REST addresses")
    parser.add_argument("--port", type=port, default=9090, help="TCP port of Prometheus (default: %(default)s)")
    parser.add_argument(
        "--interval",
        type=at_least(1),
        default=5,
        metavar="S",
        help=f"seconds between two scrapes, up to {MOST_S} (default: %(default)s)",
    )
    parser.add_argument("--storage", type=Path, metavar="FOLDER", help="folder that keeps the data (default: one that goes)")
    args = parser.parse_args(argv)
    if args.interval > MOST_S:
        parser.error(f"--interval {args.interval} is above {MOST_S}: rates over the alerts' five minutes need several scrapes")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with started(args.targets, args.port, args.interval, args.storage) as running:
            sys.stdout.write(f"page        {running.page}\nPrometheus  http://{running.address}\nCtrl-C ends both\n")
            sys.stdout.flush()
            code = running.process.wait()
            sys.stderr.write(f"make watch: Prometheus has ended by itself, with exit code {code}:\n{running.tail()}\n")
            return 1
    except KeyboardInterrupt:
        return 0
    except RuntimeError as err:
        sys.stderr.write(f"make watch: {err}\n")
        return 1


@contextmanager
def started(
    targets: list[str], port: int, interval_s: int = 5, storage: Path | None = None, program: str | None = None
) -> Iterator[Prometheus]:
    """Run Prometheus until the block ends. `port`: 0 for a free one.

    Raises RuntimeError where there is no Prometheus, the port is taken, or it does not start.
    """
    program = program or shutil.which("prometheus")
    if program is None:
        raise RuntimeError("there is no Prometheus on this machine; `make prometheus` installs Debian's")
    address = f"127.0.0.1:{_free(port)}"
    with tempfile.TemporaryDirectory(prefix="visor-watch-") as name:
        folder = Path(name)
        config = write(folder, targets, interval_s)
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={storage or folder / 'data'}",
            f"--web.listen-address={address}",
            f"--web.console.templates={folder / 'consoles'}",
            f"--web.console.libraries={folder / 'consoles'}",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        running = Prometheus(process, address, folder / "log")
        try:
            deadline = time.monotonic() + READY_S
            while not _ready(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Prometheus did not start:\n{running.tail()}")
                time.sleep(0.1)
            yield running
        finally:
            process.terminate()
            process.wait()


def write(
    folder: Path,
    targets: Sequence[str],
    interval_s: int,
    runbooks: str = RUNBOOKS,
    others: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write configuration, alerts and page into a folder; the configuration's path.

    `targets`: servers; `others`: by their job's name, what else is scraped; `runbooks`: where alerts say that they are explained.
    """
    values = yaml.safe_load((ROOT / "charts/visor/values.yaml").read_text())
    limits = {share: ms / 1000 for share, ms in values["slo"]["latencyMs"].items()} | {"errors": values["slo"]["errorRate"]}
    parts = parts_of(values) | {"selector": SELECTOR, "stable": SELECTOR}
    alerts = [alert for alert in ALERTS if alert.needs != "canary"]
    rules = {"groups": [group("visor", alerts, parts, runbooks)]}
    config: dict[str, Any] = {
        "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{max(interval_s, 15)}s"},
        "rule_files": ["rules.json"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(of_job)}]}
            for job, of_job in {"visor": targets, **(others or {})}.items()
        ],
    }
    (folder / "consoles").mkdir(parents=True, exist_ok=True)
    (folder / "consoles/visor.html").write_text(page(BOARDS, SELECTOR, limits, interval_s))
    for name, content in {"rules.json": rules, "prometheus.json": config}.items():  # JSON is YAML
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    return folder / "prometheus.json"


def parts_of(values: dict[str, Any]) -> dict[str, str]:
    """What the names in alerts stand for, by the chart's values; without the selector."""
    slo, alerts = values["slo"], values["alerts"]
    numbers = {
        **{share: ms / 1000 for share, ms in slo["latencyMs"].items()},
        "error_rate": slo["errorRate"],
        "min_requests": alerts["minRequests"],
        "min_images": alerts["minImages"],
        "no_traffic": alerts["noTraffic"],
        "decisions_window": alerts["decisions"]["window"],
        "review_share": alerts["decisions"]["reviewShare"],
        "rejected_share": alerts["decisions"]["rejectedShare"],
        "drift_window": alerts["drift"]["window"],
        "drift_min_images": alerts["drift"]["minImages"],
        "least_effect": alerts["drift"]["leastEffect"],
    }
    return {name: str(value) for name, value in numbers.items()}


def _free(port: int) -> int:
    """The port, or a free one for 0. Raises RuntimeError where it is taken: whoever has it could answer for this Prometheus."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Prometheus does, or ended connections take it
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as err:
            raise RuntimeError(
                f"port {port} cannot be had ({err.strerror}); choose another one with ARGS='--port PORT', "
                "or stop what listens there, such as the service of Debian's package"
            ) from err
        return int(probe.getsockname()[1])


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
