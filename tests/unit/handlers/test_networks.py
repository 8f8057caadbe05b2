import pytest
import torch

from handlers.networks import NETWORKS, build, map_size

# Maps of a 64 x 64 picture, from the papers: ResNet and EfficientNet halve five times, the small CNN three.
MAPS = {"resnet18": (512, 2, 2), "resnet50": (2048, 2, 2), "efficientnet_lite0": (1280, 2, 2), "small_cnn": (128, 8, 8)}
# Published totals, with a linear layer to 1,000 classes of so many channels.
TOTALS = {"resnet18": (11_689_512, 512), "resnet50": (25_557_032, 2048), "efficientnet_lite0": (4_652_008, 1280)}


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
    total, channels = TOTALS[network]
    assert sum(p.numel() for p in build(network, 2).stages.parameters()) == total - (channels + 1) * 1000


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
