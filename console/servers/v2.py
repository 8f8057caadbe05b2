"""The V2 protocol with its binary extension, as far as the console speaks it: one picture a request, outputs in binary."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError

from console.errors import ServerFailed
from console.servers.models import Answer, ItemError, Model, Question

HEADER = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.dtype("<f4"), "BOOL": np.dtype("?"), "INT64": np.dtype("<i8"), "UINT8": np.dtype("u1")}
_LENGTH = struct.Struct("<I")
# What reading an answer raises that is none.
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error, ValidationError)


def request_of(content: bytes, question: Question) -> tuple[dict[str, str], bytes]:
    """The headers and the body that ask about one encoded picture."""
    parameters: dict[str, Any] = {"binary_data_output": True, "explain": question.explain}
    parameters |= {} if question.threshold is None else {"threshold": question.threshold}
    parameters |= {} if question.group is None else {"group": question.group}
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": _LENGTH.size + len(content)},
    }
    head = orjson.dumps({"inputs": [tensor], "parameters": parameters})
    headers = {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}
    return headers, b"".join((head, _LENGTH.pack(len(content)), content))


Opened = tuple[Mapping[str, Any], Mapping[str, Any]]
"""An answer's parameters, and its outputs by name."""


def open_answer(body: bytes, header: str | None, name: str) -> Opened:
    """Open one picture's answer. `header`: its Inference-Header-Content-Length; `name`: the model's. Raises ServerFailed."""
    try:
        length = len(body) if header is None else int(header)
        head = orjson.loads(body[:length])
        facts = head.get("parameters", {})
        return ({} if facts is None else dict(facts)), _outputs(head["outputs"], memoryview(body)[length:])
    except _UNREADABLE as err:
        raise _no_answer(name) from err


def answer_of(opened: Opened, model: Model) -> Answer:
    """Read one picture's answer. `model`: that of the archive which answered. Raises ServerFailed."""
    try:
        return answer_from(*opened, model)
    except _UNREADABLE as err:
        raise _no_answer(model.name) from err


def _no_answer(name: str) -> ServerFailed:
    return ServerFailed(f"the server of model {name} answered what is no V2 answer about a picture, or one of other labels")


def model_of(metadata: Mapping[str, Any], dashboard: str | None) -> Model:
    """Read a model's metadata. Raises ServerFailed."""
    try:
        facts = metadata.get("parameters", {})
        ends = {name: facts[name] for name in ("threshold", "review_from", "review_to")} if "threshold" in facts else None
        return Model(
            name=metadata["name"],
            version=str((metadata.get("versions") or [""])[-1]),
            labels=facts["labels"],
            positive=facts.get("positive", ()),
            rule=ends,
            bound=facts.get("fnr_bound"),
            curve=facts.get("curve", ()),
            groups=facts.get("groups", ()),
            prediction_sets=facts.get("prediction_sets"),
            on_error=facts.get("on_error", ""),
            digest=facts.get("archive_digest", ""),
            platform=metadata.get("platform", ""),
            dashboard=dashboard,
        )
    except (KeyError, TypeError, AttributeError, ValidationError) as err:
        raise ServerFailed("a server's metadata is not that of a visor model: it lacks labels or a rule") from err


def _outputs(declared: Sequence[Mapping[str, Any]], data: memoryview) -> dict[str, Any]:
    """The outputs by name: text for BYTES of one element, arrays otherwise, without the side that counts pictures."""
    found: dict[str, Any] = {}
    for output in declared:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values: Any = output["data"]
        else:
            part, data = data[:size], data[size:]
            values = _texts(part) if output["datatype"] == "BYTES" else np.frombuffer(part, _TYPES[output["datatype"]])
        if output["datatype"] == "BYTES":
            found[output["name"]] = values[0]
        else:
            found[output["name"]] = np.asarray(values, _TYPES[output["datatype"]]).reshape(output["shape"])[0]
    return found


def _texts(part: memoryview) -> list[str]:
    texts = []
    while part:
        [length] = _LENGTH.unpack_from(part)
        texts.append(str(part[_LENGTH.size : _LENGTH.size + length], "utf-8"))
        part = part[_LENGTH.size + length :]
    return texts


def answer_from(facts: Mapping[str, Any], outputs: Mapping[str, Any], model: Model) -> Answer:
    """Make an answer of its parameters and outputs. Raises what reading them raises: ValueError, KeyError, TypeError, ...

    Probabilities come without their labels, which are `model`'s: an answer whose label is not the most probable one by them is of
    another archive, and a ValueError.
    """
    fields: dict[str, Any] = {
        "model": model.name,
        "version": facts.get("model_version", ""),
        "digest": facts.get("archive_digest", ""),
        "positive": orjson.loads(facts.get("positive", "[]")),
        "decision": outputs["decision"],
    }
    told = ("track", "threshold", "threshold_overridden", "review_from", "review_to", "group", "promise")
    fields |= {name: facts[name] for name in told if name in facts}
    if code := outputs.get("error"):
        sentence = outputs.get("error_message", "").removeprefix(f"{code}: ")
        return Answer(**fields, error=ItemError(code=code, message=sentence))
    fields |= {"label": outputs["label"], "confidence": float(outputs["confidence"])}
    fields["probabilities"] = probabilities = dict(zip(model.labels, outputs["probabilities"].tolist(), strict=True))
    if probabilities.get(fields["label"]) != max(probabilities.values()):
        raise ValueError("the label is not the most probable one: the archive that answered has other labels")
    if "score" in outputs:
        fields["score"] = float(outputs["score"])
    if "prediction_set" in outputs:
        inside = np.flatnonzero(outputs["prediction_set"]).tolist()
        fields["prediction_set"] = tuple(model.labels[k] for k in inside)
    if "heatmap" in outputs:
        fields |= {"heatmap": outputs["heatmap"], "heatmap_label": outputs.get("heatmap_label", "")}
        fields["heatmap_box"] = tuple(outputs["heatmap_box"].tolist()) if "heatmap_box" in outputs else (0.0, 0.0, 1.0, 1.0)
        fields["heatmap_peak"] = float(outputs["heatmap_peak"]) if "heatmap_peak" in outputs else None
    return Answer(**fields)
