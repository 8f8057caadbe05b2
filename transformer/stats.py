"""Triton's statistics extension tells what the metrics have counted, in the extension's words.

A request's time is its success or fail; the others are of single images. `compute_input` is decoding, `compute_infer` the
network, `compute_output` the decision and the heat map; every image is a batch of its own.
"""

from collections.abc import Mapping
from typing import Any

from handlers.spec import Spec
from transformer.metrics import Metrics


def statistics(spec: Spec, metrics: Metrics) -> dict[str, Any]:
    """Make the extension's answer about the one model: a list of one, for REST and gRPC alike."""
    requests = metrics.totals("visor_request_seconds", "code")
    stages = metrics.totals("visor_stage_seconds", "stage")
    lookups = metrics.totals("visor_cache_lookups", "result")
    infer = _duration(stages, "infer")
    images = infer["count"]
    computed = {
        "compute_input": _duration(stages, "decode"),
        "compute_infer": infer,
        "compute_output": {**_duration(stages, "decide", "explain"), "count": images},
    }
    model = {
        "name": spec.name,
        "version": spec.version,
        "last_inference": metrics.last_inference_ms,
        "inference_count": images,
        "execution_count": images,
        "inference_stats": {
            "success": _duration(requests, "200"),
            "fail": _duration(requests, *(code for code in requests if code != "200")),
            "queue": _duration(stages, "queue"),
            **computed,
            "cache_hit": _duration(lookups, "hit"),
            "cache_miss": _duration(lookups, "miss"),
        },
        "batch_stats": [{"batch_size": 1, **computed}] if images else [],
        # Of models that answer a request several times; of what loading the model took, which nobody measures here.
        "response_stats": {},
        "memory_usage": [],
    }
    return {"model_stats": [model]}


def _duration(totals: Mapping[str, tuple[int, float]], *keys: str) -> dict[str, int]:
    """Sum some of the totals into the extension's count and nanoseconds."""
    chosen = [totals.get(key, (0, 0.0)) for key in keys]
    return {"count": sum(count for count, _ in chosen), "ns": round(1e9 * sum(seconds for _, seconds in chosen))}
