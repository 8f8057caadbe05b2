"""The model store on disk: model-store/NAME/VERSION/NAME.mar with its signature beside it."""

import difflib
import os
import re
import shlex
from pathlib import Path

from archives.errors import StoreError

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_RUN = "run.json"
"""The file by which a folder is a training's run, which nobody can serve before it is packed."""


def path_of(store: Path, name: str, version: str) -> Path:
    """Return where an archive lies, whether or not it is there yet."""
    return store / name / version / f"{name}.mar"


def place_of(archive: Path) -> tuple[str, str | None]:
    """Return the name that an archive's place gives it and, where it lies as in a store (NAME/VERSION/NAME.mar), the version."""
    path = Path(os.path.abspath(archive))  # noqa: PTH100 - resolve() would follow links, which some storage is made of
    name, folder = path.name.removesuffix(".mar"), path.parent
    return name, folder.name if folder.parent.name == name and _VERSION.fullmatch(folder.name) else None


def versions(store: Path, name: str) -> list[str]:
    """Return the versions of a name that hold an archive, oldest first."""
    folder = store / name
    if not folder.is_dir():
        return []
    found = [p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name) and path_of(store, name, p.name).is_file()]
    return sorted(found, key=int)


def next_version(store: Path, name: str) -> str:
    """Return one more than the newest version, so that none is written twice; a folder without an archive counts."""
    folder = store / name
    taken = [int(path.name) for path in folder.iterdir() if _VERSION.fullmatch(path.name)] if folder.is_dir() else []
    return str(max(taken, default=0) + 1)


def reserve(store: Path, name: str, version: str) -> None:
    """Keep a version that was given away elsewhere from being given again."""
    (store / name / version).mkdir(parents=True, exist_ok=True)


def find(store: Path, what: str) -> Path:
    """Find the archive meant by NAME (its newest version), NAME/VERSION or the path of a .mar. Raises StoreError."""
    if what.endswith(".mar"):
        if not Path(what).is_file():
            raise StoreError(
                f"{Path(what).absolute()} does not exist{_meant(store, Path(what).stem)}; `visor archive` writes one"
            )
        return Path(what)
    name, _, version = what.partition("/")
    known = versions(store, name)
    if not known:
        _check_folder(store, what)
        held = f"it holds: {', '.join(_names(store)) or 'none'}" if store.is_dir() else "there is no such folder"
        if what and Path(what).exists():
            raise StoreError(f"{what} is {_kind(Path(what))}, and {store.absolute()} holds no archive of that name ({held})")
        raise StoreError(
            f"{store.absolute()} holds no archive named {name!r} ({held}){_meant(store, name)}; `visor archive` makes one, and "
            "--store or VISOR_STORE names another model store"
        )
    if version and version not in known:
        raise StoreError(f"{name} has no version {version!r} in {store.absolute()} (it has: {', '.join(known)})")
    return path_of(store, name, version or known[-1])


def _check_folder(store: Path, what: str) -> None:
    """Raise StoreError for a folder that is a run's, or that holds archives."""
    folder = Path(what)
    if (folder / _RUN).is_file():
        name = folder.resolve().name
        packed = f", and {name} names the newest of that name" if versions(store, name) else ""
        raise StoreError(f"{what} is the folder of a run, and no archive; `visor archive {shlex.quote(what)}` makes one{packed}")
    if what and (held := sorted(folder.glob("*.mar")) or sorted(folder.glob("[1-9]*/*.mar"))):
        raise StoreError(f"{what} is a folder, and no archive; name one that it holds, such as {held[-1]}")


def _kind(path: Path) -> str:
    """Say what something is that is no archive, and what may have been meant by it."""
    if path.is_dir():
        return "a folder that holds no archive (where images are asked for, too, the archive is named before them)"
    if (run := next((folder for folder in path.parents if (folder / _RUN).is_file()), None)) is not None:
        return f"a file of the run {run}, which `visor archive {shlex.quote(str(run))}` packs, and no archive"
    if path.suffix in {".yaml", ".yml"}:
        return "no archive; of a config, `visor train` makes a run and `visor archive` of the run an archive"
    return "a file, and no archive, whose name ends in .mar (where images are asked for, too, the archive is named before them)"


def _names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if versions(store, path.name)) if store.is_dir() else []


def _meant(store: Path, name: str) -> str:
    """Ask whether the archive of a like name is meant; "" where there is none."""
    close = difflib.get_close_matches(name, _names(store), 1)
    return f"; did you mean {close[0]}?" if close else ""
