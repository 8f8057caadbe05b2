"""`python -m loadtests.perf_analyzer` runs NVIDIA's perf_analyzer, unmodified, against any V2 server.

The real program is in one wheel, for glibc 2.38 and later; elsewhere pip gets a placeholder of that name. Where this system's
glibc is older, the program runs by Debian 13's loader and libraries, which are unpacked into a folder and not installed.
"""

import argparse
import base64
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.errors import LoadTestError, ProgramMissing

LOCK = Path(__file__).with_name("perf_analyzer.txt")
GLIBC = (2, 38)
LIBRARIES = ("libc6", "libstdc++6", "libgcc-s1", "libssl3t64", "zlib1g", "libzstd1")
RELEASE = "trixie"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
FAILED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; its exit code is this one's."""
    args, passed_on = make_parser().parse_known_args(argv)
    try:
        command = program(args.home)
        with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as folder:
            if args.picture:
                data = Path(folder) / "data.json"
                data.write_text(json.dumps(input_data([picture.read_bytes() for picture in args.picture])))
                passed_on += ["--input-data", str(data), "--shape", "image:1"]
            return subprocess.run([*command, *passed_on], check=False).returncode
    except (LoadTestError, OSError) as err:
        sys.stderr.write(f"{err}\n")
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command's own flags."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.perf_analyzer",
        description="Run NVIDIA's perf_analyzer against a V2 server. All flags but these are handed on to it, such as "
        "-m roofs -u 127.0.0.1:8080 -i http --concurrency-range 4. The first run downloads it.",
        epilog="Exit codes: perf_analyzer's own; 2 where it cannot be had or a picture cannot be read.",
    )
    parser.add_argument(
        "--picture", type=Path, action="append", metavar="FILE", help="picture to send as the input image; several take turns"
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=cache / "visor" / LOCK.read_text().split()[0],
        metavar="FOLDER",
        help="folder for the program and its libraries (default: %(default)s)",
    )
    return parser


def input_data(pictures: Sequence[bytes]) -> dict[str, object]:
    """Make perf_analyzer's --input-data of pictures: each an element of BYTES with its length before it, in base64."""
    elements = [base64.b64encode(struct.pack("<I", len(picture)) + picture).decode() for picture in pictures]
    return {"data": [{"image": {"content": {"b64": element}, "shape": [1]}} for element in elements]}


def program(home: Path) -> list[str]:
    """The command that runs it on this system, downloaded where it is not there yet. Raises ProgramMissing."""
    wheel = home / "wheel"
    binary = wheel / "perf_analyzer" / "bin" / "perf_analyzer"
    if not binary.exists():
        install = [
            sys.executable,
            "-m",
            "uv",
            "--quiet",
            "pip",
            "install",
            "--no-deps",
            "--require-hashes",
            "--no-python-downloads",
        ]
        _run([*install, "--python-platform", "x86_64-manylinux_2_38", "--target", str(wheel), "--requirement", str(LOCK)])
        binary.chmod(0o755)
    if _is_new_enough(*platform.libc_ver()):
        return [str(binary)]
    libraries = home / "debian" / "usr" / "lib" / "x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    if not loader.exists():
        _unpack_debian(home)
    return [str(loader), "--library-path", str(libraries), str(binary)]


def _is_new_enough(library: str, version: str) -> bool:
    return library == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= GLIBC


def _unpack_debian(home: Path) -> None:
    """Unpack Debian 13's libraries below `home`, from this system's own mirror; apt checks them by Debian's own keys."""
    with tempfile.TemporaryDirectory(prefix="perf-analyzer-apt-") as folder:
        own = Path(folder)
        for name in ("lists/partial", "cache/archives/partial"):
            (own / name).mkdir(parents=True)
        (own / "status").touch()
        (own / "sources.list").write_text(f"deb [signed-by={KEYS}] {_mirror()} {RELEASE} main\n")
        options = {
            "Dir::Etc::SourceList": own / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": own / "lists",
            "Dir::State::Status": own / "status",
            "Dir::Cache": own / "cache",
            "APT::Sandbox::User": "",
        }
        apt = ["apt-get", "--quiet", *(f"--option={key}={value}" for key, value in options.items())]
        _run([*apt, "update"], own)
        _run([*apt, "download", *LIBRARIES], own)
        for package in own.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(package), str(home / "debian")], own)


def _mirror() -> str:
    """The address from which this system has its Debian packages. Raises ProgramMissing."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    for address in listed.splitlines():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise ProgramMissing("apt knows no mirror of Debian here; run it on Debian, or where glibc is 2.38 or later")


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise ProgramMissing(f"{command[0]} is not here; run it on Debian, or where glibc is 2.38 or later") from err
    if done.returncode != 0:
        raise ProgramMissing(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
