"""NVIDIA's Triton: the Python backend in a model repository with one instance a worker, as its documentation has it.

https://github.com/triton-inference-server/python_backend#multiple-model-instance-support

The wheel's stub is built against NumPy 1: with NumPy 2 it reads every array with a stride of 0, and the first request ends it.

The server's binary is the one that the wheel nvidia-pytriton carries (Triton itself comes as a container otherwise); pytriton's
own proxy, which puts a ZeroMQ hop between the binary and Python, is not used.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import handlers
from handlers.spec import Spec
from loadtests.peers import classifier
from loadtests.peers.classifier import parse_args
from loadtests.peers.environment import free_ports

HERE = Path(__file__).parent
STUB = "triton_python_backend_stub"


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    args = parse_args(argv, __doc__)
    if not metadata.version("numpy").startswith("1."):
        raise SystemExit("nvidia-pytriton's stub needs NumPy 1")
    spec = Spec.read(args.model / "spec.json")
    with tempfile.TemporaryDirectory(prefix="triton-") as folder:
        home = Path(folder)
        repository = make_repository(home, args.model, spec, args.workers)
        distribution = package() / "tritonserver"
        command = [str(distribution / "bin" / "tritonserver"), "--model-repository", str(repository)]
        command += ["--backend-directory", str(make_backends(home, distribution))]
        # Instances' memory for messages: the default name is one for all servers of a machine.
        command += ["--backend-config", f"python,shm-region-prefix-name={home.name}-"]
        # Its own default, 30 s, is as long as those who stop a peer wait; it waits that long for a client that stays connected.
        command += ["--exit-timeout-secs", "10"]
        command += ["--http-address", "127.0.0.1", "--http-port", str(args.port)]
        command += ["--grpc-address", "127.0.0.1", "--grpc-port", str(args.grpc_port or free_ports(1)[0])]
        # "explicit" is the one mode in which the model repository extension, which every Triton claims, loads and unloads.
        command += ["--allow-metrics", "false", "--model-control-mode", "explicit", "--load-model", spec.name]
        process = subprocess.Popen(command, env=environment())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: process.terminate())
        code = process.wait()
        for left in Path("/dev/shm").glob(f"{home.name}-*"):  # what instances that died have left
            left.unlink(missing_ok=True)
    return max(code, 0)


def make_repository(home: Path, model: Path, spec: Spec, instances: int) -> Path:
    """A model repository with the archive's classifier as its one model."""
    repository = home / "models"
    version = repository / spec.name / spec.version  # Triton's versions are numbers; so are the demo's
    version.mkdir(parents=True)
    shutil.copy(HERE / "model.py", version)
    # What lies beside model.py can be imported; the stub ignores PYTHONPATH.
    decoding = Path(handlers.__file__).parent
    shutil.copytree(decoding, version / "handlers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(classifier.__file__, version)
    (repository / spec.name / "config.pbtxt").write_text(config(spec, model, instances))
    return repository


def config(spec: Spec, model: Path, instances: int) -> str:
    """config.pbtxt. `max_batch_size` 0: the shape is the client's own, with any number of images in a request."""
    outputs = {"label": ("STRING", [-1]), "confidence": ("FP32", [-1])}
    outputs |= {"probabilities": ("FP32", [-1, len(spec.labels)]), "decision": ("STRING", [-1])}
    listed = ",\n".join(
        f'  {{ name: "{name}" data_type: TYPE_{kind} dims: {json.dumps(dims)} }}' for name, (kind, dims) in outputs.items()
    )
    return (
        f'name: "{spec.name}"\nbackend: "python"\nmax_batch_size: 0\n'
        'input [\n  { name: "image" data_type: TYPE_STRING dims: [-1] }\n]\n'
        f"output [\n{listed}\n]\n"
        f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]\n"
        f'parameters {{ key: "archive" value: {{ string_value: {json.dumps(str(model.resolve()))} }} }}\n'
        f"version_policy: {{ all: {{ }} }}\n"
    )


def make_backends(home: Path, distribution: Path) -> Path:
    """Triton's backend folder, with the stub of this Python's version beside the backend, where it looks for it."""
    backends = home / "backends"
    shutil.copytree(distribution / "backends", backends)
    stub = distribution / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / STUB
    shutil.copy(stub, backends / "python" / STUB)
    return backends


def environment() -> dict[str, str]:
    """What Triton and its instances run in: this environment's packages, one thread each, the wheel's libraries."""
    libraries = [str(package().with_name("nvidia_pytriton.libs")), str(sysconfig.get_config_var("LIBDIR"))]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
        # The stub embeds Python, which finds its packages from the python3 that comes first.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }


def package() -> Path:
    """Folder of the wheel. Raises SystemExit where it is not installed."""
    with suppress(ModuleNotFoundError):
        if (found := find_spec("pytriton")) and found.origin:
            return Path(found.origin).parent
    raise SystemExit("nvidia-pytriton is not installed")


if __name__ == "__main__":
    sys.exit(main())
