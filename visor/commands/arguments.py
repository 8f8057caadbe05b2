"""Declare a command, and the flags that several commands share."""

import argparse
import math
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from archives.errors import KeyLocked
from handlers.errors import unread
from training.settings import home, key_passphrase, private_key, public_key, store
from transformer.flags import at_least

EXITS = (
    "Exit codes: 0 success; 1 an error, printed to standard error as `visor: CODE: sentence`; "
    "2 a mistyped command line; 130 interrupted."
)
"""The exit codes of every command that has no others."""
ARCHIVE = "the archive: a NAME in the model store (its newest version), NAME/VERSION, or the path of a .mar file"
"""The help of every argument NAME|FILE."""
CONFIG = "path of the training config, a YAML file such as training/configs/roofs.yaml"
"""The help of every argument that names a training config."""
positive, seed = at_least(1), at_least(0)
"""Parsers of whole numbers, for `type=`: from 1, and from 0, as generators of random numbers take them."""
WIDTH = 100
"""Columns of the list of commands."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


def add_command(
    commands: Commands, name: str, run: Run, description: str, exits: str = EXITS, *, resumes: bool = False
) -> argparse.ArgumentParser:
    """Declare a command, which `run` executes. The first sentence of `description` is its line in the list of commands.

    `resumes`: given again after an interruption, the command goes on where it was. Its `run` sets `begun` of the arguments when
    they are read and the job begins: what is interrupted before has nothing to go on from.
    """
    parser = commands.add_parser(name, description=description, epilog=exits)
    parser.set_defaults(run=run, resumes=resumes, begun=False)
    return parser


def list_commands(title: str, parsers: Iterable[tuple[str, argparse.ArgumentParser]]) -> str:
    """Write a group of commands as text: the title, then each command's name and first sentence."""
    lines = [f"{title}:"]
    for name, parser in parsers:
        sentence = (parser.description or "").split(". ")[0].rstrip(".")
        lines += textwrap.wrap(sentence, WIDTH, initial_indent=f"    {name:11} ", subsequent_indent=" " * 16)
    return "\n".join(lines)


def add_set(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `--set KEY=VALUE`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value of the config, such as fit.batch_size=64; may be given several times"
        f"{more} (default: no override)",
    )


def add_home(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `--home FOLDER`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--home",
        type=Path,
        default=home(),
        metavar="FOLDER",
        help="folder of runs, data sets, caches and the embedded MLflow store; a server that the environment's "
        f"MLFLOW_TRACKING_URI names is used in the store's place{more} (default: the environment's VISOR_HOME, otherwise runs; "
        "now %(default)s)",
    )


def add_store(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `--store FOLDER`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--store",
        type=Path,
        default=store(),
        metavar="FOLDER",
        help=f"the model store: a folder of archives at NAME/VERSION/NAME.mar{more} (default: the environment's VISOR_STORE, "
        "otherwise model-store; now %(default)s)",
    )


def add_private_key(parser: argparse.ArgumentParser, more: str = "; the file must exist") -> None:
    """Add `--key FILE`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--key",
        type=Path,
        default=private_key(),
        metavar="FILE",
        help=f"private key that signs the archive, as `visor keys` writes it{more} (default: the environment's VISOR_KEY, "
        "otherwise keys/visor.key; now %(default)s)",
    )


def add_passphrase(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `--passphrase-file FILE`, for `read_passphrase`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=f"file whose first line is the private key's passphrase{more} (default: the environment's VISOR_KEY_PASSPHRASE, "
        "otherwise a key without one)",
    )


def read_passphrase(args: argparse.Namespace) -> str | None:
    """Read the private key's passphrase, from the file or the environment; None where neither has one. Raises KeyLocked."""
    file: Path | None = args.passphrase_file
    if file is None:
        return key_passphrase()
    try:
        passphrase = file.read_text().partition("\n")[0].removesuffix("\r")
    except OSError as err:
        raise KeyLocked(f"--passphrase-file {file} {unread(err)}; name a file whose first line is the passphrase") from err
    except UnicodeDecodeError as err:
        raise KeyLocked(f"the passphrase in {file} cannot be read: it is no UTF-8") from err
    if not passphrase:
        raise KeyLocked(f"the first line of {file} is empty, and a passphrase is not")
    return passphrase


def add_public_key(parser: argparse.ArgumentParser, more: str = "; other archives are refused") -> None:
    """Add `--public-key FILE`, whose default is the environment's. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--public-key",
        type=Path,
        default=public_key(),
        metavar="FILE",
        help=f"public key that the archive's signature must match{more} (default: the environment's VISOR_PUBLIC_KEY, otherwise "
        "the one beside VISOR_KEY, otherwise keys/visor.pub; now %(default)s)",
    )


def add_digest(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `--digest SHA256`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--digest",
        type=_digest,
        metavar="SHA256",
        help="digest that the archive must have, 64 hexadecimal digits as `visor inspect` prints them; an older or other archive "
        f"of the same signer is then refused{more} (default: any archive that the key has signed)",
    )


def add_backend(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--backend NAME`. `default`: what happens without it."""
    parser.add_argument(
        "--backend",
        choices=("auto", "openvino-int8", "openvino", "torch"),
        help="inference library that will run the archive's network; auto takes the first of openvino-int8, openvino and "
        "torch whose answers to the validation split agree with torch's, and a named one whose answers do not agree is an error "
        f"(default: {default})",
    )


def add_alias(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add `--alias NAME`. `more`: a clause that follows the help's text."""
    parser.add_argument(
        "--alias",
        type=_alias,
        default="champion",
        metavar="NAME",
        help="alias that is moved to the model's version in MLflow's registry, of letters, digits, - and _; latest and v1 are "
        f"versions' own{more} (default: %(default)s)",
    )


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Add `--threshold SHARE`."""
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="SHARE",
        help="threshold from 0 to 1 that decides in the place of the archive's own: images are flagged whose positive labels' "
        "summed probability reaches it, and those below it that the archive's review band holds go to review; an archive "
        "without positive labels sends images to review whose confidence is below it (default: the group's or the archive's own)",
    )


def add_group(parser: argparse.ArgumentParser) -> None:
    """Add `--group COLUMN=VALUE`."""
    parser.add_argument(
        "--group",
        metavar="COLUMN=VALUE",
        help="group of images whose own threshold decides, one of those that the archive has; `visor inspect` lists them "
        "(default: the archive's threshold)",
    )


def add_fresh(parser: argparse.ArgumentParser) -> None:
    """Add `--fresh`."""
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start over; what an earlier call wrote into the run's folder stays as it is until the new run is finished and "
        "takes its place, and the same command resumes the new one (default: resume an interrupted run, leave a finished one)",
    )


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-256, 64 hexadecimal digits in small letters")
    return text


def output(*suffixes: str) -> Callable[[str], Path]:
    """Make the parser of the path of a file to write, for `type=`: other suffixes are refused, so that no picture is replaced."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text} does not end in {' or '.join(suffixes)}, as what is written there does")
        return path

    return parse


def _alias(text: str) -> str:
    """Parse an alias by MLflow's own rule (mlflow.utils.validation), which takes seconds to import."""
    if not re.fullmatch(r"[\w-]{1,255}", text, re.ASCII) or re.fullmatch(r"latest|v\d+", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no alias; one is made of at most 255 letters, digits, - and _, and is neither latest nor v and a number"
        )
    return text


def share(text: str) -> float:
    """Parse a number from 0 to 1, for `type=`."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def inner_share(text: str) -> float:
    """Parse a number above 0 and below 1, for `type=`."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0 and below 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which lies between no two numbers
