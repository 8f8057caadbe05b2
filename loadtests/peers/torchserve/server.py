"""TorchServe's own Open Inference Protocol: TS_OPEN_INFERENCE_PROTOCOL=oip with the envelope kservev2 and a custom handler.

https://github.com/pytorch/serve/tree/master/kubernetes/kserve
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from loadtests.peers.classifier import parse_args
from loadtests.peers.environment import free_ports

HANDLER = Path(__file__).with_name("handler.py")
BIN = Path(sys.executable).parent  # not on everybody's PATH


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM; TorchServe and its workers are one process group, which ends as one."""
    args = parse_args(argv, __doc__)
    with tempfile.TemporaryDirectory(prefix="torchserve-") as folder:
        home = Path(folder)
        config = write_config(home, make_archive(args.model, home), args, {"service_envelope": "kservev2"})
        run(home, config, {"TS_OPEN_INFERENCE_PROTOCOL": "oip"})
    return 0


def run(home: Path, config: Path, environment: dict[str, str]) -> None:
    """Run TorchServe until SIGTERM and leave nothing of it; `home` is private to this run."""
    process = subprocess.Popen(
        [BIN / "torchserve", "--start", "--foreground", "--ncs", "--ts-config", config],
        cwd=home,
        env={
            **os.environ,
            "PATH": os.pathsep.join((str(BIN), os.environ["PATH"])),
            "TMPDIR": str(home),  # its script keeps one pid file for all TorchServes that share a temporary folder
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        start_new_session=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.killpg(process.pid, signal.SIGTERM))
    process.wait()
    # Its Java may still be unpacking or ending workers after the script has gone.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def make_archive(directory: Path, home: Path) -> str:
    """Pack the unpacked archive anew around the stock-style handler; the model's name."""
    spec = json.loads((directory / "spec.json").read_text())
    files = ",".join(str(path) for path in sorted(directory.iterdir()) if path.is_file())
    command = [BIN / "torch-model-archiver", "--model-name", spec["name"], "--version", spec["version"], "--handler", HANDLER]
    subprocess.run([*command, "--extra-files", files, "--export-path", home], check=True)
    return str(spec["name"])


def write_config(home: Path, name: str, args: argparse.Namespace, settings: dict[str, str]) -> Path:
    """A config.properties as KServe's TorchServe runtime has it, on loopback, with further settings."""
    ports = free_ports(4)
    values = {
        "inference_address": f"http://127.0.0.1:{args.port}",
        "management_address": f"http://127.0.0.1:{ports[0]}",
        "metrics_address": f"http://127.0.0.1:{ports[1]}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": args.grpc_port or ports[2],
        "grpc_management_port": ports[3],
        "model_store": home,
        "load_models": f"{name}.mar",
        "default_workers_per_model": args.workers,
        "disable_token_authorization": "true",
        "disable_system_metrics": "true",
        "install_py_dep_per_model": "false",
        **settings,
    }
    path = home / "config.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


if __name__ == "__main__":
    if shutil.which("java") is None:
        raise SystemExit("TorchServe needs Java 17")
    sys.exit(main())
