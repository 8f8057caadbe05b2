"""docker/strip on libraries that are installed here: what is left is smaller, and works."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STRIP = Path(__file__).parents[3] / "docker" / "strip"
LOOP = """
import sys
sys.path.insert(0, sys.argv[1])
import asyncio, pathlib, {package}
assert pathlib.Path({package}.__file__).is_relative_to(sys.argv[1]), {package}.__file__
print(asyncio.run({call}))
"""


def strip(folder: Path) -> int:
    """How many bytes the script says went."""
    done = subprocess.run([sys.executable, STRIP, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[0])


def copied(package: str, folder: Path) -> Path:
    """A copy of an installed package, with its libraries beside it, as wheels have them."""
    found = importlib.util.find_spec(package)
    assert found
    assert found.origin
    source = Path(found.origin).parent
    for part in (source, source.with_name(f"{package}.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / part.name)
    return folder


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("package", "share", "call"),
    [
        ("uvloop", 0.3, "asyncio.sleep(0, 4)"),
        ("numpy", 0.995, "asyncio.sleep(0, int((numpy.ones((2, 2)) @ numpy.ones((2, 2))).sum() / 2))"),
    ],
)
def test_a_stripped_library_works(tmp_path: Path, package: str, share: float, call: str) -> None:
    folder = copied(package, tmp_path)
    before = size(folder)
    went = strip(folder)
    assert size(folder) == before - went <= share * before
    done = subprocess.run(
        [sys.executable, "-c", LOOP.format(package=package, call=call), str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr
    assert strip(folder) == 0


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"INPUT(libc.so.6)" * 10, b"\x7fELF\x01\x01" + bytes(200), b"\x7fELF\x02\x01" + b"\xff" * 200]
)
def test_what_is_no_whole_library_stays(tmp_path: Path, content: bytes) -> None:
    """Linker scripts, libraries of 32 bits, and files that were cut."""
    (tmp_path / "libx.so").write_bytes(content)
    assert strip(tmp_path) == 0
    assert (tmp_path / "libx.so").read_bytes() == content
