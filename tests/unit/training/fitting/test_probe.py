import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from handlers.decode import to_batch
from handlers.networks import build
from handlers.spec import Preprocessing
from training.fitting.batches import Images
from training.fitting.probe import linear_probe, pooled_features

PREPROCESSING = Preprocessing(height=16, width=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def patches(count, seed, tinted=True):
    """Noise, redder where the class is 0 and bluer where it is 1, unless it is not `tinted`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 150, (count, 16, 16, 3), dtype=np.uint8)
    if tinted:
        pixels[np.arange(count), :, :, 2 * labels] += 100
    return Images(pixels, np.arange(count), labels)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("small_cnn", 2)


def test_features_are_the_means_of_the_maps_whatever_the_batch(network, monkeypatch):
    images = patches(10, 0)
    with torch.no_grad():
        maps = network.eval().features(torch.from_numpy(to_batch(list(images.pixels), PREPROCESSING)))
    expected = [[maps[n, c].mean().item() for c in range(3)] for n in range(10)]
    for size in (3, 256):
        monkeypatch.setattr("training.fitting.probe.BATCH", size)
        features = pooled_features(network, images, PREPROCESSING)
        assert features.shape == (10, 128)
        assert features[:, :3] == pytest.approx(np.array(expected), abs=1e-6)


def test_it_is_a_logistic_regression_on_standardised_features(network):
    train, val = patches(30, 0), patches(40, 1)
    features, others = (pooled_features(network, images, PREPROCESSING).astype(float) for images in (train, val))
    mean, std = features.mean(axis=0), features.std(axis=0)
    std[std == 0] = 1
    fitted = LogisticRegression(max_iter=2000).fit((features - mean) / std, train.labels)
    expected = np.mean(fitted.predict((others - mean) / std) == val.labels)
    assert linear_probe(network, train, val, PREPROCESSING) == pytest.approx(expected, abs=1e-6)


def test_it_finds_what_is_there_and_nothing_else(network):
    assert linear_probe(network, patches(60, 0), patches(40, 1), PREPROCESSING) == 1.0
    assert linear_probe(network, patches(60, 0, tinted=False), patches(40, 1, tinted=False), PREPROCESSING) < 0.75


def test_looking_changes_nothing_in_the_network(network):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    linear_probe(network, patches(8, 0), patches(8, 1), PREPROCESSING)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
