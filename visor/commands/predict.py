"""`visor predict`: ask a server, or an archive without one, about images."""

import argparse
import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from visor.commands.arguments import Commands, add_command, add_digest, add_group, add_public_key, add_store, add_threshold

if TYPE_CHECKING:
    from visor.answers import Answer, Answering

logger = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    """Declare the command."""
    predict = add_command(
        commands,
        "predict",
        run,
        "Ask a server, or an archive without a server, about images. Prints one line for each image: its path, then label, "
        "confidence (0 to 1) and decision, or an error's code and sentence; with --threshold or --group also whether an "
        "archive's promise on missed images is held or overridden. `visor score` answers for a folder of images.",
        exits="Exit codes: 0 every image was answered; 1 an image or the whole request failed; 2 a mistyped command line; "
        "130 interrupted.",
    )
    predict.allow_abbrev = False  # or --token SECRET would be taken for --token-file, and the secret for its name
    predict.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="path of an image file; may be given several times"
    )
    predict.add_argument(
        "--url",
        default="http://127.0.0.1:8080",
        help="address of the V2 server: http:// or https:// for REST, behind a path if need be, grpc:// or grpcs:// for gRPC "
        "(default: %(default)s)",
    )
    predict.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file whose first line, comments (#) aside, is the bearer token to send to the server; no flag takes the token "
        "itself, which every user of the machine could read (default: the environment variable VISOR_TOKEN, else no token)",
    )
    predict.add_argument(
        "--cacert",
        type=Path,
        metavar="FILE",
        help="certificates (PEM) of the authorities that may vouch for the server, for https:// and grpcs:// "
        "(default: the environment variable SSL_CERT_FILE, else the usual public ones)",
    )
    predict.add_argument(
        "--cert",
        type=Path,
        metavar="FILE",
        help="certificate (PEM) to show to a server that asks its clients for one (default: none)",
    )
    predict.add_argument(
        "--key", type=Path, metavar="FILE", help="private key (PEM, without a passphrase) of --cert (default: in --cert's file)"
    )
    predict.add_argument(
        "--model",
        metavar="NAME",
        help="name of the model on the server; needed where the server has several (default: the only one)",
    )
    predict.add_argument(
        "--archive",
        metavar="NAME|FILE",
        help="answer in this process from an archive, NAME, NAME/VERSION or a .mar file; what concerns a server is then "
        "without effect (default: ask --url)",
    )
    predict.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="write each image, overlaid with the heat map that explains its decision, as PNG into FOLDER, with the answer and a "
        "scale of the colours, which mean the same in every image (default: no heat maps)",
    )
    add_threshold(predict)
    add_group(predict)
    predict.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object a line, with the probabilities of all labels (default: text to read)",
    )
    predict.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="HTTP header to send with each request, over gRPC as metadata; may be given several times. 'Host: NAME' selects "
        "one of the servers behind a gateway, and over TLS is the name that its certificate must have (default: no header)",
    )
    add_public_key(predict, more="; read with --archive alone")
    add_digest(predict, more="; read with --archive alone")
    add_store(predict, more="; read with --archive alone")


def run(args: argparse.Namespace) -> int:
    """Print each image's answer; 1 when an image has an error instead."""
    from visor.answers import Question

    if args.explain:
        _check_explain(args.explain, args.images)
    if not args.archive:
        _check_images(args.images, args.store)
    question = Question(args.explain is not None, args.threshold, args.group)
    failed = False
    with _answering(args) as answering:
        for image, answer in zip(args.images, answering.ask(args.images, question), strict=True):
            overlay = None if answer.heatmap is None else _draw(answer, args.explain, image)
            failed |= answer.error is not None
            print(_json(image, answer, overlay) if args.json else _line(image, answer, overlay, args), flush=True)
    return int(failed)


def _check_images(images: Sequence[Path], store: Path) -> None:
    """Refuse an archive where images are named, which `visor score` and others take first."""
    from archives.store import versions
    from visor.errors import ImageUnreadable

    for image in images:
        if image.suffix == ".mar" or (not image.exists() and versions(store, image.parts[0] if image.parts else "")):
            raise ImageUnreadable(
                f"{image} is an archive and no image; `visor predict IMAGE --archive {shlex.quote(str(image))}` has it answer"
            )


def _check_explain(folder: Path, images: Sequence[Path]) -> None:
    """Refuse to draw among the pictures. Of those in the working folder, a folder beside them is none of theirs."""
    from visor.outputs import check_apart, check_folder

    check_folder(folder)
    folders = {image.parent for image in images}
    here = {held for held in folders if held.resolve() == Path.cwd() != folder.resolve()}
    check_apart("--explain", folder, folders - here)


@contextmanager
def _answering(args: argparse.Namespace) -> "Iterator[Answering]":
    """What is asked: the archive, or the server. Raises what opening it raises."""
    if args.archive:
        from visor.model import load

        yield load(args.archive, args.public_key, digest=args.digest, store=args.store)
        return
    from visor.client import Client
    from visor.connection import SECRET_HEADERS

    headers = dict(args.header)
    for name in sorted(SECRET_HEADERS & headers.keys()):
        logger.warning("--header %s: every user of this machine can read it on the command line; see --token-file", name)
    with Client(
        args.url,
        model=args.model,
        token_file=args.token_file,
        headers=headers,
        cacert=args.cacert,
        cert=args.cert,
        key=args.key,
    ) as client:
        yield client


def _draw(answer: "Answer", folder: Path, image: Path) -> Path:
    from visor.drawing import place, save

    path = place(folder, image)
    save(answer.overlay(), path)
    return path


def _line(image: Path, answer: "Answer", overlay: Path | None, args: argparse.Namespace) -> str:
    """Write an answer as text to read."""
    if answer.error:
        return "  ".join(filter(None, (str(image), str(answer.error), answer.decision)))
    promise = f"promise {answer.promise}" if answer.promise and (args.threshold is not None or args.group) else ""
    told = (str(image), answer.label, f"{answer.confidence:.3f}", answer.decision, promise, str(overlay or ""))
    return "  ".join(filter(None, told))


def _json(image: Path, answer: "Answer", overlay: Path | None) -> str:
    """Write an answer as one line of JSON."""
    same = ("label", "confidence", "probabilities", "score", "decision", "threshold", "review_from", "review_to")
    told = {
        "image": str(image),
        **{name: getattr(answer, name) for name in (*same, "group", "promise", "prediction_set")},
        "archive_digest": answer.digest,
        "model_version": answer.version,
        "error": answer.error.code if answer.error else "",
        "error_message": str(answer.error or ""),
        "overlay": overlay and str(overlay),
    }
    return json.dumps(told)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not 'NAME: VALUE'")
    return name.strip().lower(), value.strip()
