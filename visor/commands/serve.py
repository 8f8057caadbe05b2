"""`visor serve`: serve an archive on this machine."""

import argparse
import dataclasses

from transformer.flags import port
from transformer.settings import EdgeSettings, default_track
from visor.commands.arguments import ARCHIVE, Commands, add_command, add_digest, add_public_key, add_store, positive


def add(commands: Commands) -> None:
    """Declare the command."""
    serve = add_command(
        commands,
        "serve",
        run,
        "Serve an archive over V2 REST and gRPC on this machine. Verifies the archive's signature, starts TorchServe and the "
        "server in front of it, prints the key's SHA-256 and both addresses once ready, and answers until Ctrl-C or SIGTERM, "
        "after which accepted requests are finished.",
        exits="Exit codes: 0 stopped by Ctrl-C or SIGTERM; 1 an error, printed to standard error as `visor: CODE: sentence`; "
        "2 a mistyped command line; 130 interrupted while the archive was being verified.",
    )
    serve.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    serve.add_argument(
        "--port",
        type=port,
        default=8080,
        help="TCP port of REST; 0 takes a free one, and without --grpc-port one for gRPC, too; both are printed "
        "(default: %(default)s)",
    )
    serve.add_argument(
        "--grpc-port",
        type=port,
        metavar="PORT",
        help="TCP port of gRPC; 0 takes a free one (default: 8081, or a free one with --port 0)",
    )
    serve.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="number of worker processes (default: one per CPU that this process may use)",
    )
    serve.add_argument(
        "--picture-memory-mib",
        type=positive,
        metavar="MIB",
        help="MiB that each worker may take for one picture and its request, above what it has once the archive is loaded; a "
        "picture that takes more is answered image.too_large (default: what the archive's limits come to, 336 for 50 megapixels)",
    )
    flags = ("--host", "--track", "--token-file", "--shadow-url", "--shadow-file", "--no-allow-threshold", "--max-queue")
    EdgeSettings.add_flags(serve, (*flags, "--hang-s", "--cache-images", "--request-log"))
    serve.add_argument(
        "--no-page",
        dest="page",
        action="store_false",
        help="leave out the page at / on which a person asks about one picture in a browser (default: it is there)",
    )
    serve.set_defaults(host="127.0.0.1", track=default_track())
    add_public_key(serve)
    add_digest(serve)
    add_store(serve)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal, printing the addresses."""
    from archives import store
    from transformer.server import check_settings
    from visor.serving.serve import ServeOptions, serve

    edge = dataclasses.replace(EdgeSettings.from_args(args), http_port=args.port, grpc_port=grpc_port(args))
    check_settings(edge)
    picture_bytes = args.picture_memory_mib and args.picture_memory_mib << 20
    options = ServeOptions(args.public_key, edge, args.digest, args.workers, picture_bytes)
    serve(store.find(args.store, args.archive), options, lambda line: print(line, flush=True))
    return 0


def grpc_port(args: argparse.Namespace) -> int:
    """The gRPC port: as given, else 8081, or a free one where REST takes a free one."""
    return (8081 if args.port else 0) if args.grpc_port is None else int(args.grpc_port)
