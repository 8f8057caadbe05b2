"""A run's folder → NAME.mar with spec and lineage, and beside it the signature and the signed provenance statement."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import handlers
from archives import provenance, signing, store
from archives.contents import LINEAGE, MAX_BYTES, SPEC, read
from archives.files import naming, open_plain
from archives.lineage import Lineage
from handlers.errors import ArchiveBroken
from handlers.spec import MIB, Spec
from training import runs
from training.errors import RunError

SCRATCH, STALE_S = ".building-", 3600.0


def build(run: Path, model_store: Path, lineage: Lineage, private_key: Path, passphrase: str | None = None) -> Path:
    """Pack a finished run as the next version of its name, signed and with its provenance, and return the .mar's path.

    It holds the weights and the graph of the spec's backend, on whose answers the decision was fitted, and no other.
    Everything happens in a scratch folder that one rename makes a version, so an interruption leaves no half archive.
    `run` must be finished, which `lineage.collect` has found out. Raises ArchiveBroken (too large), KeyFileError, KeyLocked,
    RunError (a member that is no file of its own).
    """
    spec = Spec.read(run / SPEC)
    (model_store / spec.name).mkdir(parents=True, exist_ok=True)
    _sweep(model_store / spec.name)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=model_store / spec.name) as scratch, naming(model_store):
        version = store.next_version(model_store, spec.name)
        spec = spec.model_copy(update={"version": version})
        staged = _stage(run, Path(scratch) / "staged", spec, lineage)
        out = Path(scratch) / version
        archive = _pack(staged, out, spec, Path(scratch))
        if archive.stat().st_size > MAX_BYTES:
            raise ArchiveBroken(
                f"{spec.name}.mar has {archive.stat().st_size / MIB:.0f} MiB, over {MAX_BYTES // 10**6} MB; use a smaller network"
            )
        signing.sign(archive, private_key, passphrase)
        provenance.write(archive, read(archive), private_key, passphrase)
        out.rename(model_store / spec.name / version)
    return store.path_of(model_store, spec.name, version)


def _sweep(folder: Path) -> None:
    """Remove what killed builds left; a build takes seconds, so nothing that old is still at work."""
    for left in folder.glob(f"{SCRATCH}*"):
        if time.time() - left.stat().st_mtime > STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def _stage(run: Path, staged: Path, spec: Spec, lineage: Lineage) -> Path:
    """Lay out the members as they are to lie in the archive; the entry goes in by the archiver's own --handler."""
    staged.mkdir()
    for member in (runs.WEIGHTS, runs.REFERENCE, *runs.GRAPHS[spec.backend]):
        _copy(run / member, staged / member)
    for card in (runs.CARD, runs.CARD_PAGE):
        if (run / card).exists():  # runs of 0.1 have none
            _copy(run / card, staged / card)
    (staged / SPEC).write_text(spec.model_dump_json(indent=2) + "\n")
    (staged / LINEAGE).write_text(lineage.model_dump_json(indent=2) + "\n")
    package = Path(handlers.__file__).parent
    shutil.copytree(package, staged / "handlers", ignore=shutil.ignore_patterns("entry.py", "py.typed", "__pycache__"))
    return staged


def _copy(source: Path, target: Path) -> None:
    """Copy a file that is no link: it could name the key, which what wrote the run must not have. Raises RunError."""
    try:
        file = open_plain(source, os.O_NOFOLLOW)
    except OSError as err:
        raise RunError(f"{source} is not packed: {err.strerror}; a run's files are files of its own") from err
    with file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def _pack(staged: Path, out: Path, spec: Spec, scratch: Path) -> Path:
    out.mkdir()
    # As a process of its own and with its own TMPDIR: the archiver works in, and first deletes, TMPDIR/NAME. It takes a comma
    # for the end of a path, so it runs in `scratch` and is told names alone; -P keeps what lies there from being imported.
    command = [sys.executable, "-P", "-m", "model_archiver.model_packaging", "--model-name", spec.name, "--version", spec.version]
    command += ["--handler", str(Path(handlers.__file__).absolute().parent / "entry.py"), "--extra-files", staged.name]
    done = subprocess.run(
        [*command, "--export-path", out.name],
        cwd=scratch,
        env={**os.environ, "TMPDIR": str(scratch.absolute())},
        capture_output=True,
        text=True,
        check=False,
    )
    archive = out / f"{spec.name}.mar"
    if (said := os.strerror(errno.ENOSPC)) in done.stderr:
        raise OSError(errno.ENOSPC, said)
    if done.returncode or not archive.is_file():
        raise ArchiveBroken(f"torch-model-archiver failed with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return archive
