"""Schemas of OpenAPI 3.0 describe the V2 protocol's JSON as visor speaks it, with one archive's names and limits."""

from typing import Any

from handlers.spec import Spec
from transformer import metadata
from transformer.images import CHANNELS, IMAGE, INPUTS, PIXELS
from transformer.outputs import outputs_of
from transformer.rest.body import SIZE
from transformer.tensors import NUMPY

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SIDE: Schema = {"type": "integer", "minimum": 0}


def strings(*values: str) -> Schema:
    """The schema of one of these strings."""
    return {"type": "string", "enum": list(values)}


def fields(required: dict[str, Any], optional: dict[str, Any] | None = None, **rest: Any) -> Schema:
    """The schema of an object; other fields, in either direction, are ignored unless `rest` says otherwise."""
    # OpenAPI 3.0 has no empty list of required ones.
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": {**required, **(optional or {})}, **rest}


def maybe(schema: Schema) -> Schema:
    """The schema of this or null, which means the same as a missing field."""
    return {**schema, "nullable": True}


def items(schema: Schema, least: int | None = None, most: int | None = None) -> Schema:
    """The schema of an array. `least` and `most`: the number of its elements."""
    bounds = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": schema, **{key: bound for key, bound in bounds.items() if bound is not None}}


def _number(schema: Schema) -> Schema:
    """The schema of a parameter that is a number, or that number in a string, or null."""
    return {"oneOf": [schema, {**TEXT, "pattern": "^-?[0-9]"}], "nullable": True}


def reference(name: str) -> Schema:
    """The reference to the component of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def components(spec: Spec, max_images: int) -> dict[str, Schema]:
    """Make every named schema. `max_images`: the most of one request."""
    outputs = outputs_of(spec)
    rule = {"threshold": SHARE, "review_from": SHARE, "review_to": {**SHARE, "maximum": 2}}
    return {
        "InferRequest": fields(
            {"inputs": items({"oneOf": [reference("ImageInput"), reference("PixelsInput")]}, 1, 1)},
            {
                "id": maybe({**TEXT, "description": "Comes back in the answer."}),
                "parameters": reference("RequestParameters"),
                "outputs": {
                    **maybe(items(reference("RequestedOutput"))),
                    "description": "Left out or empty: all that the parameters bring.",
                },
            },
            example={
                "inputs": [{"name": IMAGE.name, "datatype": IMAGE.datatype, "shape": [1], "data": [EXAMPLE_PNG]}],
                "parameters": {"explain": True},
            },
        ),
        "ImageInput": _input(
            IMAGE.name,
            {**items({**SIDE, "minimum": 1, "maximum": max_images}, 1, 2), "description": "[N] or [N, 1]"},
            {
                **TEXT,
                "format": "byte",
                "description": f"{spec.preprocessing.formats}, at most {spec.limits.max_bytes} bytes, in base64.",
            },
            max_images,
        ),
        "PixelsInput": _input(
            PIXELS.name,
            {**items(SIDE, len(PIXELS.shape), len(PIXELS.shape)), "description": f"[N, height, width, {CHANNELS}]"},
            {"type": "integer", "minimum": 0, "maximum": 255},
        ),
        "RequestParameters": fields(
            {},
            {
                "explain": {**maybe(FLAG), "description": "Answer with a heat map of what drove each decision."},
                "top_k": {
                    **_number({"type": "integer", "minimum": 1, "maximum": len(spec.labels)}),
                    "description": "Answer with the k most probable labels.",
                },
                "threshold": {
                    **_number({"type": "number", "minimum": 0, "maximum": 1}),
                    "description": f"In place of the archive's {spec.decision.threshold:.6g}.",
                },
                "group": {
                    **maybe(TEXT),
                    "description": "Group of images whose own threshold decides, COLUMN=VALUE; the archive's metadata has them.",
                },
                "timeout": {
                    **_number(SIDE),
                    "description": "Microseconds that the request may take; 0: no limit of the client's.",
                },
                "priority": {**_number(SIDE), "description": "Checked, and not used: images wait in line as they came."},
                "binary_data_output": {**maybe(FLAG), "description": "All outputs behind the JSON, as raw bytes."},
            },
            description="Others are ignored, and must be text, numbers or booleans. A null is as if left out.",
            additionalProperties=maybe({"oneOf": [TEXT, {"type": "number"}, FLAG]}),
            nullable=True,
        ),
        "RequestedOutput": fields(
            {"name": strings(*outputs)},
            {
                "parameters": fields(
                    {},
                    {
                        "binary_data": {**maybe(FLAG), "description": "This output behind the JSON, as raw bytes."},
                        "classification": {
                            "type": "integer",
                            "minimum": 1,
                            "nullable": True,
                            "description": "Of probabilities: this many of the highest, as VALUE:INDEX:LABEL.",
                        },
                    },
                    nullable=True,
                )
            },
        ),
        "InferResponse": fields(
            {
                "model_name": strings(spec.name),
                "model_version": strings(spec.version),
                "parameters": reference("AnswerParameters"),
                "outputs": items(reference("OutputTensor"), 1),
            },
            {"id": TEXT},
            additionalProperties=False,
        ),
        "AnswerParameters": fields(
            {
                "archive_digest": {**TEXT, "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the archive that answered."},
                "model_version": strings(spec.version),
                **rule,
                "threshold_overridden": {**FLAG, "description": "Whether the request brought the threshold."},
                "positive": {**TEXT, "description": "The labels that are flagged: a list, as JSON in text."},
            },
            {
                "group": {**TEXT, "description": "The group that the request named."},
                "promise": {
                    **strings("held", "overridden"),
                    "description": "Whether the threshold is within the archive's bound on missed images, where it has one.",
                },
                "track": {**TEXT, "description": "Which of the model's releases answered: stable or canary."},
            },
        ),
        "OutputTensor": fields(
            {"name": strings(*outputs), "datatype": strings("BOOL", "BYTES", "FP32"), "shape": items(SIDE, 1)},
            {
                "data": {**items({"oneOf": [TEXT, {"type": "number"}, FLAG]}), "description": "Row by row, flat."},
                "parameters": {**fields({SIZE: SIDE}), "description": "In place of data, where it goes behind the JSON."},
            },
            additionalProperties=False,
        ),
        "ServerMetadata": fields({"name": TEXT, "version": TEXT, "extensions": items(strings(*metadata.EXTENSIONS))}),
        "ModelMetadata": fields(
            {
                "name": strings(spec.name),
                "versions": items(strings(spec.version), 1, 1),
                "platform": TEXT,
                "inputs": items(reference("TensorMetadata"), 1, 1),
                "outputs": items(reference("TensorMetadata"), 1, len(outputs)),
                "parameters": fields(
                    {
                        "archive_digest": TEXT,
                        "inputs_instead": {
                            **items(reference("InputInstead")),
                            "description": "Other inputs, each in the place of one.",
                        },
                        "labels": items(strings(*spec.labels)),
                        "positive": {**items(strings(*spec.labels)), "description": "The labels that are flagged."},
                        **rule,
                        "outputs_on_request": items(reference("TensorMetadata")),
                    },
                    {
                        "fnr_bound": fields(
                            {"level": SHARE, "threshold": SHARE, "positives": SIDE}, {"confidence": SHARE, "groups": SIDE}
                        ),
                        "curve": {
                            **items(fields({"threshold": SHARE, "missed": SHARE, "false_alarms": SHARE}), most=100),
                            "description": "What other thresholds would miss and flag, on the calibration split.",
                        },
                        "groups": items(fields({"name": TEXT, **rule})),
                        "prediction_sets": fields({"method": strings("lac", "aps"), "coverage": SHARE}),
                        "on_error": {**strings("flag", "review"), "description": "The decision about a picture that fails."},
                    },
                ),
            }
        ),
        "ModelConfig": fields(
            {
                "name": strings(spec.name),
                "platform": TEXT,
                "backend": TEXT,
                "version_policy": {"type": "object"},
                "max_batch_size": {"type": "integer", "description": "0: the sides of a tensor are all that its shape has."},
                "input": items(reference("TensorConfig"), 1, 1),
                "output": items(reference("TensorConfig"), 1, len(outputs)),
                "instance_group": {
                    **items(fields({"name": TEXT, "kind": TEXT, "count": {**SIDE, "description": "Workers."}}), most=1),
                    "description": "Empty while the number of workers is not known.",
                },
                "parameters": {
                    "type": "object",
                    "additionalProperties": fields({"string_value": TEXT}),
                    "description": "The parameters of the metadata, as text or as JSON in text.",
                },
            }
        ),
        "TensorConfig": fields({"name": TEXT, "data_type": TEXT, "dims": items({"type": "integer", "minimum": -1})}),
        "InputInstead": fields(
            {
                "name": strings(PIXELS.name),
                "datatype": strings(PIXELS.datatype),
                "shape": items({"type": "integer", "minimum": -1}),
                "instead_of": strings(IMAGE.name),
            }
        ),
        "TensorMetadata": fields({"name": TEXT, "datatype": strings(*NUMPY), "shape": items({"type": "integer", "minimum": -1})}),
        "Statistics": fields({"model_stats": items(_statistics(spec), 1, 1)}),
        "Duration": fields({"count": SIDE, "ns": {**SIDE, "description": "Nanoseconds, of all of them together."}}),
        "LoadRequest": fields(
            {}, {"parameters": maybe({"type": "object", "maxProperties": 0, "description": "None is granted."})}
        ),
        "IndexRequest": fields({}, {"ready": {**maybe(FLAG), "description": "Only models that are ready."}}),
        "Index": items(
            fields(
                {
                    "name": strings(spec.name),
                    "version": strings(spec.version),
                    "state": strings(metadata.READY, metadata.UNAVAILABLE),
                    "reason": TEXT,
                }
            )
        ),
    }


EXAMPLE_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
"""A red dot of 1 x 1 pixel, in base64, for the page's first request and for the selftest."""


def _statistics(spec: Spec) -> Schema:
    """The schema of Triton's statistics of a model, which `transformer.stats` makes."""
    computed = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), reference("Duration"))
    waited = dict.fromkeys(("success", "fail", "queue", "cache_hit", "cache_miss"), reference("Duration"))
    return fields(
        {
            "name": strings(spec.name),
            "version": strings(spec.version),
            "last_inference": {**SIDE, "description": "Milliseconds since 1970; 0 before the first."},
            "inference_count": SIDE,
            "execution_count": SIDE,
            "inference_stats": fields({**waited, **computed}),
            "batch_stats": items(fields({"batch_size": SIDE, **computed}), most=1),
            "response_stats": {"type": "object", "maxProperties": 0, "description": "Every request has one answer."},
            "memory_usage": {**items({"type": "object"}, most=0), "description": "Not measured."},
        }
    )


def _input(name: str, shape: Schema, element: Schema, most: int | None = None) -> Schema:
    """The schema of an input with its elements in `data`, flat or nested as its shape is, or in binary behind the JSON."""
    nested = {"oneOf": [element, {"type": "array", "items": {}}]}
    return fields(
        {"name": strings(name), "datatype": strings(INPUTS[name].datatype), "shape": shape},
        {
            "data": {**maybe(items(nested, most=most)), "description": "Flat, or nested as the shape is."},
            "parameters": fields(
                {},
                {
                    SIZE: {
                        **maybe(SIDE),
                        "description": "In place of data: how many of the bytes behind the JSON are this input's.",
                    }
                },
                nullable=True,
            ),
        },
    )
