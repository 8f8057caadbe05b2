"""TorchServe's worker without torch, for archives whose backend does not need it.

TorchServe imports torch in one place, the codec that turns what a handler returns into bytes, to serialise tensors. Ours
returns text. With torch that import costs seconds and 300 MB for each worker, and 5 GB of an image; here the codec gets a
stand-in, and nobody else: after it, `import torch` means torch again, and fails where there is none.

`visor.torchserve` lays this file where TorchServe looks for its worker; it runs as a script and imports nothing of ours.
"""

import importlib
import runpy
import sys
from types import ModuleType

CODEC = "ts.protocol.otf_message_handler"


def import_codec() -> None:
    """Import TorchServe's codec, for which alone `torch` is a module with a class that has no instances."""
    stand_in = ModuleType("torch")
    stand_in.Tensor = type("Tensor", (), {})  # type: ignore[attr-defined]
    sys.modules["torch"] = stand_in
    try:
        importlib.import_module(CODEC)
    finally:
        del sys.modules["torch"]


if __name__ == "__main__":
    del sys.path[0]  # this script's own folder, which only looks like TorchServe's
    import_codec()
    runpy.run_module("ts.model_service_worker", run_name="__main__", alter_sys=True)
