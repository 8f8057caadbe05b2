"""Command `python -m transformer.selftest`: ask a served model about one picture, over REST and gRPC; `helm test` runs it.

It is a client and nothing else: it knows the protocol, and neither the archive nor the edge's inside.
"""

import argparse
import base64
import functools
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import grpc

from handlers.errors import VisorError
from transformer.errors import SelftestFailed, show
from transformer.grpc.messages import SERVICE, message, service_descriptor
from transformer.rest.body import HEADER_LENGTH
from transformer.rest.schemas import EXAMPLE_PNG
from transformer.tokens import AUTHORIZATION, read_tokens

PICTURE = base64.b64decode(EXAMPLE_PNG)
"""The picture that is asked about."""

PAUSE_S = 0.5  # between two questions whether the server is ready
WORDS_BYTES = 1000  # shown of a server's own explanation
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class SelftestResult:
    """What a model answered about the picture."""

    model: str
    version: str
    label: str
    decision: str
    confidence: float
    heatmap: tuple[int, ...]
    archive_digest: str

    def __str__(self) -> str:
        size = "x".join(str(side) for side in self.heatmap[1:])
        return (
            f"{self.model} version {self.version}: {self.label} {self.confidence:.3f} {self.decision}, heat map {size}, "
            f"archive {self.archive_digest[:12]}"
        )


Ask: TypeAlias = Callable[[str, float], SelftestResult]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a mistyped flag, or no server at all, ends the process with a usage line."""
    parser = argparse.ArgumentParser(
        prog="python -m transformer.selftest",
        description="Ask a served model about one picture over REST, gRPC or both, and print a line for each of what it "
        "answered. --rest, --grpc or both are required; with --gateway, the same protocols are asked through it as well.",
        epilog="Exit codes: 0 each named server answered in time and as V2 does; 1 one did not, for the reason printed to "
        "standard error; 2 a mistyped command line, or no server named.",
    )
    parser.add_argument(
        "--rest", metavar="URL", help="URL of the REST server to test, such as http://roofs-predictor.default (default: none)"
    )
    parser.add_argument(
        "--grpc",
        metavar="HOST:PORT",
        help="address of the gRPC server to test, such as roofs-predictor.default:8081 (default: none)",
    )
    parser.add_argument(
        "--gateway",
        metavar="HOST:PORT",
        help="address of a plain listener of the gateway whose route is to be tested too, such as "
        "envoy-kserve-ingress-gateway.kserve:30080 (default: none)",
    )
    parser.add_argument("--host", metavar="NAME", help="host by which the gateway's route is known; required with --gateway")
    parser.add_argument("--grpc-host", metavar="NAME", help="host of gRPC's own route (default: that of --host)")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file of bearer tokens, as the edge has it, whose first one is sent (default: none)",
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds within which each protocol must be ready and have answered (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if not (args.rest or args.grpc):
        parser.error("name a server: --rest, --grpc or both")
    if args.gateway and not args.host:
        parser.error("--gateway needs --host, by which its route is known")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Ask every named server; 0 when each has answered in time and as the protocol says, else 1."""
    args = parse_args(argv)
    try:
        own = {AUTHORIZATION: f"Bearer {read_tokens(args.token_file)[0]}"} if args.token_file else {}
        for protocol, ask, address, host in _servers(args):
            shown = f"{protocol} {address}{f' as {host}' if host else ''}"
            sys.stdout.write(f"{shown}: {_read(functools.partial(ask, headers=own, host=host), address, args.timeout_s)}\n")
    except VisorError as err:
        sys.stderr.write(f"visor: {err}\n")
        return 1
    return 0


def _servers(args: argparse.Namespace) -> Iterator[tuple[str, Callable[..., SelftestResult], str, str]]:
    """Protocol, function, address and the gateway's host or "" of each question."""
    if args.rest:
        yield "REST", ask_rest, args.rest, ""
    if args.grpc:
        yield "gRPC", ask_grpc, args.grpc, ""
    if args.gateway and args.rest:
        yield "REST", ask_rest, f"http://{args.gateway}", args.host
    if args.gateway and args.grpc:
        yield "gRPC", ask_grpc, args.gateway, args.grpc_host or args.host


def ask_rest(url: str, timeout_s: float, headers: Mapping[str, str] = NONE, host: str = "") -> SelftestResult:
    """Ask over REST for readiness, the model's name, and one picture's answer with a heat map. Raises SelftestFailed.

    `headers`: sent along with each request. `host`: of the route, where `url` is a gateway's: it takes a while to know it.
    """
    base, deadline = url.rstrip("/"), time.monotonic() + timeout_s
    headers = {**headers, "Host": host} if host else headers

    def call(path: str, body: bytes | None = None, about: Mapping[str, str] = NONE) -> Any:
        request = Request(f"{base}{path}", data=body, headers={**headers, **about}, method="POST" if body is not None else "GET")
        try:
            with urlopen(request, timeout=max(deadline - time.monotonic(), PAUSE_S)) as answer:
                text = answer.read()
        except HTTPError as err:
            if err.code == 503 or (host and err.code == 404):
                raise _NotYet(f"{path} answered {err.code}", host) from err
            words = err.read(WORDS_BYTES).decode(errors="replace")
            raise SelftestFailed(f"{base}{path} answered {err.code}: {words}") from err
        except (URLError, OSError) as err:
            raise _NotYet(f"{path} did not answer: {err}", host) from err
        return json.loads(text) if text else None

    _until(deadline, base, lambda: call("/v2/health/ready"))
    model = _only([entry["name"] for entry in call("/v2/repository/index", b"{}")], base)
    image = _element(PICTURE)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(image)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"explain": True}}).encode()
    answer = call(
        f"/v2/models/{model}/infer",
        text + image,
        {HEADER_LENGTH: str(len(text)), "Content-Type": "application/octet-stream"},
    )
    outputs = {output["name"]: output for output in answer["outputs"]}
    return _check_result(
        base,
        model=answer["model_name"],
        version=answer["model_version"],
        values={name: outputs[name]["data"][0] for name in ("label", "decision", "confidence", "error")},
        heatmap=outputs["heatmap"]["shape"],
        archive_digest=answer["parameters"]["archive_digest"],
    )


def ask_grpc(address: str, timeout_s: float, headers: Mapping[str, str] = NONE, host: str = "") -> SelftestResult:
    """Ask the same over gRPC, with raw contents; `headers` go along as metadata. Raises SelftestFailed."""
    deadline = time.monotonic() + timeout_s
    not_yet = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    if host:
        not_yet.add(grpc.StatusCode.UNIMPLEMENTED)  # a gateway that knows no route answers 404, and gRPC says this of it
    with grpc.insecure_channel(address, options=[("grpc.default_authority", host)] if host else []) as channel:

        def call(method: str, **fields: Any) -> Any:
            described = service_descriptor().methods_by_name[method]
            stub = channel.unary_unary(
                f"/{SERVICE}/{method}", response_deserializer=message(described.output_type.name).FromString
            )
            request = message(described.input_type.name)(**fields).SerializeToString()
            try:
                return stub(request, timeout=max(deadline - time.monotonic(), PAUSE_S), metadata=tuple(headers.items()))
            except grpc.RpcError as err:
                if err.code() in not_yet:
                    raise _NotYet(f"{method} did not answer: {err.code().name} {err.details()}", host) from err
                raise SelftestFailed(f"{address} answered {method} with {err.code().name}: {err.details()}") from err

        def ready() -> None:
            if not call("ServerReady").ready:
                raise _NotYet("ServerReady answered false", host)

        _until(deadline, address, ready)
        model = _only([entry.name for entry in call("RepositoryIndex").models], address)
        answer = call(
            "ModelInfer",
            model_name=model,
            inputs=[{"name": "image", "datatype": "BYTES", "shape": [1]}],
            parameters={"explain": message("InferParameter")(bool_param=True)},
            raw_input_contents=[_element(PICTURE)],
        )
    raw = {output.name: raw for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}
    values: dict[str, Any] = {name: raw[name][4:].decode() for name in ("label", "decision", "error")}
    [values["confidence"]] = struct.unpack("<f", raw["confidence"])
    return _check_result(
        address,
        model=answer.model_name,
        version=answer.model_version,
        values=values,
        heatmap=next(output.shape for output in answer.outputs if output.name == "heatmap"),
        archive_digest=answer.parameters["archive_digest"].string_param,
    )


def _read(ask: Ask, address: str, timeout_s: float) -> SelftestResult:
    try:
        return ask(address, timeout_s)
    except (LookupError, ValueError, struct.error) as err:
        raise SelftestFailed(f"{address} answered, but not as V2 does: {err!r}") from err


class _NotYet(SelftestFailed):
    """The server is not ready yet; another try is worth it until the time is up. `host`: of the gateway's route, if one."""

    def __init__(self, why: str, host: str) -> None:
        super().__init__(f"{why}; look at {f'the status of the route of {host}' if host else 'its pods and their logs'}")


def _until(deadline: float, address: str, ready: Callable[[], object]) -> None:
    while True:
        try:
            ready()
        except _NotYet as err:
            if time.monotonic() + PAUSE_S > deadline:
                raise SelftestFailed(f"{address} did not get ready in time: {err.args[0]}") from err
            time.sleep(PAUSE_S)
        else:
            return


def _only(names: list[str], address: str) -> str:
    if len(names) != 1:
        raise SelftestFailed(f"{address} has {len(names)} models ({', '.join(names)}); one release serves one")
    return names[0]


def _element(data: bytes) -> bytes:
    """Encode a BYTES tensor of one element as raw contents: its length, little-endian, and the element."""
    return struct.pack("<I", len(data)) + data


def _check_result(
    address: str, model: str, version: str, values: dict[str, Any], heatmap: Sequence[int], archive_digest: str
) -> SelftestResult:
    if values["error"]:
        raise SelftestFailed(f"{address} could not read a plain PNG: {values['error']}")
    if not 0 < values["confidence"] <= 1 or not values["label"] or not values["decision"]:
        raise SelftestFailed(f"{address} gave no decision: {show(values)}")
    return SelftestResult(
        model=model,
        version=version,
        label=values["label"],
        decision=values["decision"],
        confidence=values["confidence"],
        heatmap=tuple(int(side) for side in heatmap),
        archive_digest=archive_digest,
    )


if __name__ == "__main__":
    sys.exit(main())
