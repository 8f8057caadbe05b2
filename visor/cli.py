"""`visor`: parses the command line and hands over to one job; prints results, and errors as `visor: CODE: sentence`."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from handlers.errors import VisorError
from training.settings import rank
from visor.commands import bound, compare, pretrain, score, search
from visor.commands import data as data_commands
from visor.commands.arguments import KEYS, Commands, add_home, add_public_key, add_set, add_store, positive

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with a sentence on the errors that visor raises, 2 on a mistyped command."""
    args = parse_args(argv)
    # One line an event, progress and results apart: results alone go to standard output.
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO, format="%(message)s", stream=sys.stderr)
    # What these say of themselves, the commands say better.
    for name in ("uvicorn", "botocore", "matplotlib", "onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except VisorError as err:
        print(f"visor: {err}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("visor: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_number: int, _frame: object) -> None:
    """SIGTERM, a pod's end, is an interruption like Ctrl-C: what is under way is closed in order."""
    raise KeyboardInterrupt


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; `run` of the result is the function to call with it."""
    parser = argparse.ArgumentParser(prog="visor", description=__doc__.split(":")[0] if __doc__ else None)
    parser.description = "From a folder of labelled images to a calibrated, explained and signed classifier."
    parser.add_argument("--version", action="version", version=f"visor {version('visor')}")
    parser.add_argument("--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_data, _add_train, _add_evaluate, _add_keys, _add_archive, _add_inspect, _add_register, _add_pipeline):
        add(commands)
    pretrain.add(commands)
    for add in (_add_serve, _add_predict, _add_demo):
        add(commands)
    for command in (bound, score, search, compare):
        command.add(commands)
    return parser.parse_args(argv)


def _add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="make, list and verify data sets")
    verbs = data.add_subparsers(required=True, metavar="VERB")

    make = verbs.add_parser("make", help="write a built-in data set to disk and print its folder")
    make.add_argument("config", type=Path, help="a training config, such as training/configs/roofs.yaml")
    add_set(make)
    add_home(make)
    make.set_defaults(run=_data_make)

    manifest = verbs.add_parser("manifest", help="list every image with its digest, label and split")
    manifest.add_argument("config", type=Path)
    manifest.add_argument("--out", type=Path, default=Path("manifest.json"))
    add_set(manifest)
    add_home(manifest)
    manifest.set_defaults(run=_data_manifest)

    verify = verbs.add_parser("verify", help="name every file that changed, is missing or was added since the manifest")
    verify.add_argument("folder", type=Path)
    verify.add_argument("--manifest", type=Path, default=Path("manifest.json"))
    verify.set_defaults(run=_data_verify)

    data_commands.add(verbs)


def _data_make(args: argparse.Namespace) -> int:
    from training import config
    from training.data import sources

    print(sources.prepare(config.load(args.config, args.set).data, args.home))
    return 0


def _data_manifest(args: argparse.Namespace) -> int:
    from training import config
    from training.data import duplicates, manifest, sources

    settings = config.load(args.config, args.set)
    root = sources.prepare(settings.data, args.home)
    listed = manifest.build(root, settings.data)
    duplicates.check_leaks(root, listed, settings, args.home)
    listed.write(args.out)
    for split in manifest.SPLITS:
        print(f"{split:12} {len(listed.of(split)):6} images")
    print(f"labels       {', '.join(listed.labels)}\ndigest       {listed.digest}\nmanifest     {args.out}")
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    from training.data import manifest

    listed = manifest.Manifest.read(args.manifest)
    manifest.verify(args.folder, listed)
    print(f"{args.folder}: all {len(listed.samples)} images are as in {args.manifest} (digest {listed.digest})")
    return 0


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="fit, calibrate, evaluate and track; resumes where it was interrupted")
    train.add_argument("config", type=Path, help="such as training/configs/roofs.yaml")
    train.add_argument("--out", type=Path, help="the run's folder (default: HOME/NAME)")
    train.add_argument("--fresh", action="store_true", help="start over, even where a checkpoint could be resumed")
    add_set(train)
    add_home(train)
    train.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from training import config
    from training.jobs.train import train

    settings = config.load(args.config, args.set)
    run = train(settings, args.out or args.home / settings.name, args.home, fresh=args.fresh)
    if not rank():  # of torchrun's processes, the one that has written it
        print(run)
    return 0


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="calibrate, choose the threshold and measure a fitted run again")
    evaluate.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from training import runs
    from training.jobs.evaluate import evaluate_run

    evaluate_run(args.folder)
    print(args.folder / runs.REPORT)
    return 0


def _add_keys(commands: Commands) -> None:
    keys = commands.add_parser("keys", help="make a key pair to sign archives with")
    keys.add_argument("--out", type=Path, default=KEYS)
    keys.set_defaults(run=_keys)


def _keys(args: argparse.Namespace) -> int:
    from training.signing import make_keys

    private, public = make_keys(args.out)
    print(f"private  {private}  (keep it secret: whoever has it can sign as you)")
    print(f"public   {public}  (goes wherever archives are served)")
    return 0


def _add_archive(commands: Commands) -> None:
    archive = commands.add_parser("archive", help="pack and sign a finished run as the next version in the model store")
    archive.add_argument("folder", type=Path, metavar="RUN", help="the run's folder, such as runs/roofs")
    archive.add_argument("--key", type=Path, default=KEYS / "visor.key", help="private key (default: %(default)s)")
    archive.add_argument("--onnx", action="store_true", help="write NAME.onnx beside the archive, and into its MLflow run")
    _add_backend(archive)
    add_store(archive)
    add_home(archive)
    archive.set_defaults(run=_archive)


def _archive(args: argparse.Namespace) -> int:
    from training.jobs.archive import archive

    path = archive(args.folder, args.store, args.key, args.backend)
    print(path)
    if args.onnx:
        from training.jobs.export_onnx import export_onnx

        print(export_onnx(args.folder, path, args.key, args.home))
    return 0


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add_parser("inspect", help="print an archive's spec and lineage, and whether its signature holds")
    inspect.add_argument("archive", metavar="NAME|FILE")
    add_public_key(inspect)
    add_store(inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=_inspect)


def _inspect(args: argparse.Namespace) -> int:
    from training import store
    from visor.inspect import show

    return show(store.find(args.store, args.archive), args.public_key, as_json=args.json)


def _add_register(commands: Commands) -> None:
    register = commands.add_parser("register", help="record an archive in MLflow's registry and move an alias to it")
    register.add_argument("archive", metavar="NAME|FILE")
    register.add_argument("--alias", default="champion")
    add_store(register)
    add_home(register)
    register.set_defaults(run=_register)


def _register(args: argparse.Namespace) -> int:
    from training import archive, store
    from training.jobs.register import register

    contents = archive.read(store.find(args.store, args.archive))
    print(register(contents, args.alias, args.home))
    return 0


def _add_pipeline(commands: Commands) -> None:
    pipeline = commands.add_parser("pipeline", help="fetch, train, archive, copy and register; goes on where it was interrupted")
    pipeline.add_argument("config", type=Path, help="such as training/configs/roofs.yaml")
    pipeline.add_argument("--data-uri", metavar="s3://...|PATH", help="where the images are, instead of the config's data.path")
    pipeline.add_argument("--key", type=Path, default=KEYS / "visor.key", help="private key (default: %(default)s)")
    pipeline.add_argument("--store-uri", metavar="s3://...", help="copy the archive there, to NAME/VERSION")
    pipeline.add_argument("--alias", default="champion", help="in MLflow's registry; none for none (default: %(default)s)")
    pipeline.add_argument("--mlflow-wait-s", type=float, default=0.0, help="how long an MLflow server may take to start")
    _add_backend(pipeline)
    add_set(pipeline)
    add_store(pipeline)
    add_home(pipeline)
    pipeline.set_defaults(run=_pipeline)


def _pipeline(args: argparse.Namespace) -> int:
    from training.jobs.pipeline import Places, pipeline

    places = Places(args.home, args.store, args.key, args.data_uri, args.store_uri)
    alias = None if args.alias == "none" else args.alias
    if place := pipeline(args.config, args.set, places, alias, args.backend, args.mlflow_wait_s):
        print(place)
    return 0


def _add_serve(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="serve an archive over V2 REST and gRPC, on this machine")
    serve.add_argument("archive", metavar="NAME|FILE", help="a name in the model store, NAME/VERSION or a .mar file")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=8080, help="REST; 0 takes free ports, for gRPC too, and prints them")
    serve.add_argument("--grpc-port", type=_port, help="gRPC (default: 8081, or a free one with --port 0)")
    serve.add_argument("--workers", type=positive, help="worker processes (default: one per CPU of the limit)")
    serve.add_argument(
        "--max-queue", type=positive, help="images that may wait; more are refused (default: 32 a worker, and not below 64)"
    )
    serve.add_argument(
        "--cache-images", type=int, default=0, help="answers kept for images that come again; 0 for none (default: %(default)s)"
    )
    serve.add_argument(
        "--request-log",
        choices=("none", "errors", "all"),
        default="all",
        help="which requests get a line of JSON on standard error (default: %(default)s)",
    )
    add_public_key(serve)
    add_store(serve)
    serve.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from training import store
    from visor.serve import ServeOptions, serve

    options = ServeOptions(
        host=args.host,
        port=args.port,
        grpc_port=grpc_port(args),
        public_key=args.public_key,
        workers=args.workers,
        max_queue=args.max_queue,
        cache_images=args.cache_images,
        request_log=args.request_log,
    )
    serve(store.find(args.store, args.archive), options, lambda line: print(line, flush=True))
    return 0


def grpc_port(args: argparse.Namespace) -> int:
    """The gRPC port: as given, else 8081, or a free one where REST takes a free one."""
    return (8081 if args.port else 0) if args.grpc_port is None else int(args.grpc_port)


def _add_predict(commands: Commands) -> None:
    predict = commands.add_parser("predict", help="ask a server, or an archive offline, about images")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    predict.add_argument("--url", default="http://127.0.0.1:8080", help="http://, https:// or grpc:// (default: %(default)s)")
    predict.add_argument("--model", help="the model's name, where the server has several")
    predict.add_argument("--archive", metavar="NAME|FILE", help="answer offline from an archive instead of a server")
    predict.add_argument("--explain", type=Path, metavar="DIR", help="write each image with its heat map into DIR")
    predict.add_argument("--threshold", type=float, help="decide by this threshold instead of the archive's")
    predict.add_argument("--json", action="store_true", help="print one JSON object a line")
    predict.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="send along, over gRPC as metadata; repeatable. 'Host: NAME' picks one of a gateway's servers",
    )
    add_public_key(predict)
    add_store(predict)
    predict.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    from training import store
    from visor import client

    request = client.Request(threshold=args.threshold, overlays=args.explain, headers=dict(args.header))
    if args.archive:
        predictions = client.ask_archive(store.find(args.store, args.archive), args.public_key, args.images, request)
    else:
        predictions = client.ask_server(args.url, args.model, args.images, request)
    failed = 0
    for one in predictions:
        failed += bool(one.error)
        if args.json:
            print(one.to_json(), flush=True)
        elif one.error:
            print(f"{one.image}  {one.error}", flush=True)
        else:
            drawn = f"  {one.overlay}" if one.overlay else ""
            print(f"{one.image}  {one.label}  {one.confidence:.3f}  {one.decision}{drawn}", flush=True)
    return FAILED if failed else 0


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="the whole way on this machine: data, training, archive, serving, answers")
    demo.add_argument("--data", default="roofs", help="roofs, digits or a folder of labelled images (default: %(default)s)")
    demo.add_argument("--key", type=Path, default=KEYS / "visor.key", help="private key; made when missing")
    add_set(demo)
    add_public_key(demo)
    add_store(demo)
    add_home(demo)
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from visor.demo import Places, demo

    demo(args.data, Places(args.home, args.store, args.key, args.public_key), args.set)
    return 0


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=("auto", "openvino-int8", "openvino", "torch"),
        default="auto",
        help="what serves it; auto: the first of the others that answers the test split as torch does (default: %(default)s)",
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to 65535")
    return port


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not 'NAME: VALUE'")
    return name.strip().lower(), value.strip()


if __name__ == "__main__":
    sys.exit(main())
