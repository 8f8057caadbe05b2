"""`visor predict`: ask a server, or an archive without one, about images."""

import argparse
import dataclasses
import logging
from pathlib import Path

from visor.commands.arguments import Commands, add_command, add_digest, add_group, add_public_key, add_store, add_threshold

logger = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    """Declare the command."""
    predict = add_command(
        commands,
        "predict",
        run,
        "Ask a server, or an archive without a server, about images. Prints one line for each image: its path, then label, "
        "confidence (0 to 1) and decision, or an error code; with --threshold or --group also whether an archive's promise on "
        "missed images is held or overridden. `visor score` answers for many images.",
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
    predict.add_argument("--json", action="store_true", help="print one JSON object a line (default: text to read)")
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
    from archives import store
    from visor import client
    from visor.connection import SECRET_HEADERS, Access, read_token

    request = client.Request(threshold=args.threshold, group=args.group, overlays=args.explain)
    if args.archive:
        archive = store.find(args.store, args.archive)
        predictions = client.ask_archive(archive, args.public_key, args.images, request, args.digest)
    else:
        for name in sorted(SECRET_HEADERS & dict(args.header).keys()):
            logger.warning("--header %s: every user of this machine can read it on the command line; see --token-file", name)
        access = Access(args.cacert, args.cert, args.key, read_token(args.token_file))
        request = dataclasses.replace(request, headers=dict(args.header), access=access)
        predictions = client.ask_server(args.url, args.model, args.images, request)
    failed = False
    for one in predictions:
        failed |= bool(one.error)
        if args.json:
            print(one.to_json(), flush=True)
        elif one.error:
            print("  ".join(filter(None, (one.image, one.error, one.decision))), flush=True)
        else:
            promise = f"promise {one.promise}" if one.promise and (args.threshold is not None or args.group) else ""
            told = (one.image, one.label, f"{one.confidence:.3f}", one.decision, promise, one.overlay)
            print("  ".join(filter(None, told)), flush=True)
    return int(failed)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not 'NAME: VALUE'")
    return name.strip().lower(), value.strip()
