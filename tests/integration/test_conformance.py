"""visor passes the conformance suite whole; and the suite's checks can fail, each on a server that is wrong in one way."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.compare import make_table
from tests.integration.running import ROOT, Server
from tests.integration.toy_server import DEFECTS

# What the suite is told about visor's inputs: nothing, as its metadata says it, or the input that may stand in the one's place.
INPUTS = {"encoded pictures": [], "pixels": ["--input", "pixels:UINT8:-1,16,16,3"]}
# What uvicorn with h11, on which the toy stands, does otherwise than RFC 9112 wants it.
UVICORNS_OWN = {
    "test_http_messages.py::test_the_absolute_form_is_read",
    "test_http_messages.py::test_an_unknown_transfer_coding_is_501",
    "test_http_messages.py::test_a_length_beside_chunks_ends_the_connection",
}

# All that the suite needs; loading what else is installed takes three times as long as its checks of one module.
PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider")
# What is wrong → checks of which each must fail. Others may fail with them, such as every client's.
CAUGHT_BY = {
    "knows every model": {
        "test_rest_errors.py::test_an_unknown_model_is_refused",
        "test_rest_metadata.py::test_metadata_of_an_unknown_model_is_an_error",
        "test_rest_metadata.py::test_an_unknown_model_is_not_ready",
    },
    "forgets the id": {"test_rest_inference.py::test_the_id_comes_back", "test_binary_data.py::test_the_id_comes_back"},
    "says detail instead of error": {
        "test_rest_errors.py::test_what_is_no_request_is_refused",
        "test_rest_metadata.py::test_metadata_of_an_unknown_model_is_an_error",
    },
    "breaks at a wrong request": {"test_mistakes.py::test_a_wrong_request"},
    "answers all outputs": {"test_rest_inference.py::test_each_output_can_be_asked_for_alone"},
    "promises another shape": {"test_rest_inference.py::test_outputs_are_of_the_datatype_and_shape_that_the_metadata_promises"},
    "mixes up answers": {"test_rest_inference.py::test_requests_in_parallel_get_their_own_answers"},
    "reads nested data by columns": {"test_rest_inference.py::test_a_nested_batch_is_read_row_by_row"},
    "ignores the wish for binary": {"test_binary_data.py::test_binary_data_output_is_for_all_outputs"},
    "takes what binary data there is": {
        "test_binary_data.py::test_a_wrong_binary_data_size_is_refused",
        "test_binary_data.py::test_a_tensor_of_another_length_than_its_shape_is_refused",
    },
    "closes each connection": {"test_http.py::test_one_connection_serves_many_requests"},
    "lists an input that it refuses": {"test_rest_inference.py::test_a_request_of_all_that_the_metadata_lists_is_answered"},
    "takes any parameter": {
        "test_parameters.py::test_a_parameter_of_another_kind_is_refused",
        "test_parameters.py::test_an_output_into_unknown_shared_memory_is_refused",
    },
    "takes a request without a host": {"test_http_messages.py::test_a_request_has_one_host"},
}


@contextmanager
def toy(defect: str = "") -> Iterator[tuple[str, str]]:
    """A running toy server: its REST and gRPC addresses."""
    command = [sys.executable, "-m", "tests.integration.toy_server", *filter(None, [defect])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        rest, grpc = process.stdout.readline().split()
        yield f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def run_suite(results: Path, *arguments: str, only: Sequence[str] = ("",)) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, output and the results' checks; `only`: nodes below the suite's folder."""
    nodes = [f"tests/conformance/{node}" for node in only]
    command = [sys.executable, "-m", "pytest", *nodes, *PLUGINS, "--results", str(results), *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    checks = json.loads(results.read_text())["checks"] if results.exists() else []
    return done.returncode, done.stdout + done.stderr, checks


def names(checks: list[dict[str, Any]], outcome: str) -> set[str]:
    """Checks of that outcome, without their parameters."""
    return {check["check"].partition("[")[0] for check in checks if check["outcome"] == outcome}


@pytest.mark.parametrize("described", INPUTS.values(), ids=INPUTS)
def test_visor_claims_every_extension_and_passes_every_check(
    server: Server, images: dict[Path, str], tmp_path: Path, described: list[str]
) -> None:
    address = ("--rest", f"http://{server.rest}", "--grpc", server.grpc, "--model", "digits", *described)
    folder = next(iter(images)).parents[1]  # one folder for each digit: pictures whose answers differ
    pictures = [f"--image={next((folder / digit).iterdir())}" for digit in "037"]
    code, output, checks = run_suite(tmp_path / "results", *address, *pictures)
    assert [(check["check"], check["outcome"], check["message"]) for check in checks if check["outcome"] != "passed"] == []
    assert len(checks) > 340
    assert "deselected" not in output
    assert code == 0, output


def test_a_right_server_passes_every_check_of_what_it_claims(tmp_path: Path) -> None:
    with toy() as (rest, _):
        _, output, checks = run_suite(tmp_path / "results", "--rest", rest, "--model", "toy", "--without", "grpc")
    assert names(checks, "failed") == UVICORNS_OWN
    assert len(names(checks, "passed")) > 80
    unclaimed = {check["level"].partition("(")[2].removesuffix(")") for check in checks if check["outcome"] == "not claimed"}
    levels = {
        "versions",
        "content_coding(gzip)",
        "content_coding(deflate)",
        "model_repository",
        "model_repository(index)",
        "model_configuration",
        "statistics",
        "classification",
    }
    assert unclaimed == levels
    assert re.search(r"\d+ passed, \d+ deselected, \d+ not claimed", output)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_wrong_server_is_caught(tmp_path: Path, defect: str) -> None:
    arguments = ("--model", "toy", "--without", "grpc", "--input", "x:FP32:-1,4")
    with toy(defect) as (rest, _):
        code, output, checks = run_suite(tmp_path / "results", "--rest", rest, *arguments, only=sorted(CAUGHT_BY[defect]))
    assert code == 1, output
    assert CAUGHT_BY[defect] <= names(checks, "failed")


def test_a_grpc_port_without_the_service_passes_no_check_of_it(tmp_path: Path) -> None:
    with toy() as (rest, grpc):
        arguments = ("--rest", rest, "--grpc", grpc, "--model", "toy")
        code, output, checks = run_suite(tmp_path / "results", *arguments, only=["test_grpc.py"])
    assert code == 1, output
    # That an unknown method is UNIMPLEMENTED is true of it; nothing else is.
    assert names(checks, "passed") == {"test_grpc.py::test_an_unknown_method_is_unimplemented"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--rest and --grpc and --model missing"),
        (["--rest", "http://127.0.0.1:9", "--model", "toy"], "--grpc missing"),
        (["--rest", "http://127.0.0.1:9", "--model", "toy", "--without", "grpc"], "no server answers at http://127.0.0.1:9"),
    ],
)
def test_without_a_server_it_is_an_error_with_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    code, output, checks = run_suite(tmp_path / "results", *arguments)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: oip-conformance: {sentence}" in output
    assert checks == []


def test_inputs_that_nobody_tells_are_asked_for(tmp_path: Path) -> None:
    with toy() as (rest, _):
        code, output, _ = run_suite(tmp_path / "results", "--rest", rest, "--model", "other", "--without", "grpc")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "the metadata of model other names no inputs; say what a valid request is: --input" in output


def test_the_table_counts_what_was_made_and_brackets_what_was_not_claimed() -> None:
    def document(version: str, date: str, *outcomes: tuple[str, str, str]) -> dict[str, Any]:
        checks = [{"group": group, "level": level, "outcome": outcome} for group, level, outcome in outcomes]
        return {"date": date, "server": {"version": version}, "checks": checks}

    a, b, c = ("REST", "required"), ("REST", "recommended"), ("gRPC", "extension(batch)")
    one = document("1.0", "2026-01-02", (*a, "passed"), (*b, "failed"), (*c, "passed"))
    other = document("2.0", "2026-01-03", (*a, "passed"), (*b, "passed"), (*c, "not claimed"))
    assert make_table({"one": one, "other": other}).splitlines()[:-2] == [
        "| checks | one 1.0 | other 2.0 |",
        "| --- | --- | --- |",
        "| REST | 1/2 | 2/2 |",
        "| gRPC | 1/1 | not claimed |",
        "| *required* | 1/1 | 1/1 |",
        "| *recommended* | 0/1 | 1/1 |",
        "| *extension* | 1/1 | not claimed |",
        "| **all** | 2/3 | 2/2 (1) |",
        "| made on | 2026-01-02 | 2026-01-03 |",
    ]


def test_it_imports_nothing_of_visor() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "loadtests"}
    assert {"handlers", "transformer", "visor"} <= packages
    for module in (ROOT / "tests/conformance").glob("*.py"):
        imported = set(re.findall(r"^\s*(?:from|import) (\w+)", module.read_text(), re.MULTILINE))
        assert not imported & packages, module
