import pytest
import torch

from handlers.networks import NETWORKS, bicubic, build, map_size

# Maps of a 64 x 64 picture, from the papers: most halve five times, the small CNN three, and ViT's patches are 16 x 16.
MAPS = {
    "resnet18": (512, 2, 2),
    "resnet34": (512, 2, 2),
    "resnet50": (2048, 2, 2),
    "efficientnet_lite0": (1280, 2, 2),
    "efficientnet_b0": (1280, 2, 2),
    "mobilenet_v3_small": (576, 2, 2),
    "mobilenet_v3_large": (960, 2, 2),
    "vit_tiny_patch16": (192, 4, 4),
    "small_cnn": (128, 8, 8),
}
# Published totals, without what follows the pooling: linear layers from so many to so many channels.
TOTALS = {
    "resnet18": (11_689_512, [(512, 1000)]),
    "resnet34": (21_797_672, [(512, 1000)]),
    "resnet50": (25_557_032, [(2048, 1000)]),
    "efficientnet_lite0": (4_652_008, [(1280, 1000)]),
    "efficientnet_b0": (5_288_548, [(1280, 1000)]),
    "mobilenet_v3_small": (2_542_856, [(576, 1024), (1024, 1000)]),
    "mobilenet_v3_large": (5_483_032, [(960, 1280), (1280, 1000)]),
    "vit_tiny_patch16": (5_717_416, [(192, 1000)]),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_are_a_linear_function_of_the_mean_of_the_maps(network):
    model = build(network, 3).eval()
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.bias)
    with torch.no_grad():
        logits, maps = model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert maps.shape == (2, *MAPS[network])
    expected = maps.flatten(2).sum(dim=2) / maps[0, 0].numel() @ model.head.weight.T + model.head.bias
    assert torch.allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("network", TOTALS)
def test_the_features_have_the_published_number_of_parameters(network):
    total, layers = TOTALS[network]
    after = sum((inputs + 1) * outputs for inputs, outputs in layers)
    assert sum(p.numel() for p in build(network, 2).stages.parameters()) == total - after


@pytest.mark.parametrize("network", NETWORKS)
def test_map_size_is_that_of_the_maps_and_leaves_the_mode(network):
    model = build(network, 2).train()
    assert map_size(model, 64, 64) == MAPS[network]
    assert model.training


def test_a_new_head_prefers_no_class():
    logits, _ = build("small_cnn", 4).eval()(torch.randn(2, 3, 16, 16))
    assert torch.equal(logits, torch.zeros(2, 4))


def test_dropout_acts_on_the_pooled_features_in_training_alone():
    model = build("small_cnn", 2, dropout=0.5)
    torch.nn.init.ones_(model.head.weight)
    maps = torch.ones(64, 128, 2, 2)
    assert torch.equal(model.eval().classify(maps), torch.full((64, 2), 128.0))
    assert len(model.train().classify(maps).unique()) > 1


@pytest.mark.parametrize(("height", "width"), [(14, 14), (4, 6), (20, 9)])
def test_bicubic_is_pytorchs_with_antialiasing(height, width):
    places = torch.randn(1, 5, 14, 14, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(places, (height, width), mode="bicubic", antialias=True)
    rows, columns = torch.tensor(bicubic(height, 14)), torch.tensor(bicubic(width, 14))
    assert torch.allclose(rows @ places @ columns.T, expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (64, 96)])
def test_the_vision_transformer_is_timms_with_the_mean_over_patches(height, width):
    import timm

    torch.manual_seed(0)
    options = {"global_pool": "avg", "fc_norm": False, "dynamic_img_size": True, "num_classes": 5}
    theirs = timm.create_model("vit_tiny_patch16_224", **options).eval()
    torch.nn.init.normal_(theirs.pos_embed)
    model = build("vit_tiny_patch16", 5).eval()
    names = [*model.stages.state_dict()]
    model.stages.load_state_dict(dict(zip(names, _in_order_of(model, theirs), strict=True)))
    model.head.load_state_dict(theirs.head.state_dict())
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        logits, maps = model(images)
        assert torch.allclose(logits, theirs(images), atol=1e-4)
        tokens = theirs.forward_features(images)[:, 1:]  # (N, h w, C), row by row
    assert maps.shape == (2, 192, height // 16, width // 16)
    assert torch.allclose(maps[1, :, 2, 1], tokens[1, 2 * (width // 16) + 1], atol=1e-4)


def _in_order_of(model, theirs):
    state = theirs.state_dict()
    first = {"0.cls_token": "cls_token", "0.pos_embed": "pos_embed", "0.proj.weight": "patch_embed.proj.weight"}
    first |= {"0.proj.bias": "patch_embed.proj.bias", "13.norm.weight": "norm.weight", "13.norm.bias": "norm.bias"}
    for name in model.stages.state_dict():
        stage, _, rest = name.partition(".block.")
        yield state[first.get(name) or f"blocks.{int(stage) - 1}.{rest}"]
