import functools
import logging
import math
import re

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from handlers.decode import to_batch
from handlers.networks import Classifier
from tests.unit import configs
from training.errors import ConfigError, RunError
from training.fitting import checkpoint, torch_setup
from training.fitting.batches import Images
from training.fitting.fit import fit, validate
from training.fitting.losses import class_weights
from training.fitting.pretrained import make_model

ONES = torch.ones(2)


def make_config(phases=({"epochs": 2, "learning_rate": 0.01, "unfreeze": "all"},), seed=0, augment=None, **options):
    return configs.make_config(seed=seed, augment=augment or {}, fit={"phases": phases, "batch_size": 8, **options})


def reds_and_blues(count, seed=0, pixels=None):
    """Noise, redder where the class is 0 and bluer where it is 1, in a cache with other images in between."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 200, (2 * count, 16, 16, 3), dtype=np.uint8)
    rows = np.sort(rng.permutation(2 * count)[:count])
    pixels[rows, :, :, 2 * labels] += 55
    return Images(pixels, rows, labels)


TRAIN, VAL = reds_and_blues(30), reds_and_blues(12, seed=1)


def fitted(config, state=None, save=None, train=TRAIN, val=VAL):
    model = make_model(config, 2)
    return model, fit(model, train, val, config, state, save)


def assert_same(weights, others):
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_it_learns_what_can_be_learnt():
    model, state = fitted(make_config([{"epochs": 6, "learning_rate": 0.01, "unfreeze": "all"}]))
    assert [epoch["epoch"] for epoch in state.history] == [1, 2, 3, 4, 5, 6]
    assert state.history[-1]["train_loss"] < 0.5 * state.history[0]["train_loss"]
    assert validate(model, VAL, make_config(), ONES)[1] == 1.0


def test_the_first_loss_and_step_are_those_of_the_papers():
    # A head of zeros gives every class 1/2, so the loss is log 2; AdamW's first step is the rate, against the gradient's sign.
    config = make_config([{"epochs": 1, "learning_rate": 0.125}], batch_size=30, weight_decay=0)
    model, state = fitted(config)
    assert state.history[0]["train_loss"] == pytest.approx(math.log(2))
    moved = state.weights["head.weight"]
    assert moved.abs().max() == pytest.approx(0.125, rel=1e-3)
    with torch.no_grad():
        pooled = model.features(torch.from_numpy(to_batch(list(TRAIN.pixels[TRAIN.rows]), config.preprocessing))).mean((2, 3))
    gradient = (pooled[TRAIN.labels == 1].sum(0) - pooled[TRAIN.labels == 0].sum(0)) / 60  # of class 0's row
    clear = gradient.abs() > 1e-4
    assert torch.equal(moved[0][clear].sign(), -gradient[clear].sign())


def test_the_same_config_and_data_give_the_same_weights_and_another_seed_does_not():
    options = {"flip_horizontal": True, "brightness": 0.2}
    first, again, other = (fitted(make_config(seed=seed, augment=options))[1] for seed in (0, 0, 1))
    assert_same(first.best, again.best)
    assert first.history == again.history
    assert not torch.equal(first.best["head.weight"], other.best["head.weight"])


def test_workers_change_nothing():
    alone, helped = (fitted(make_config(workers=workers, augment={"shift": 0.2}))[1] for workers in (0, 1))
    assert_same(alone.best, helped.best)


# Every option that leaves something to be remembered or drawn.
OPTIONS = {
    "focal_gamma": 2.0,
    "class_weights": "sampled",
    "accumulate": 2,
    "clip_norm": 0.5,
    "ema_decay": 0.7,
    "precision": "bf16",
}
MIXING = {"rand_augment": 2, "mixup": 0.4, "cutmix": 1.0}
WARM = ({"epochs": 2, "learning_rate": 0.01, "warmup_epochs": 1}, {"epochs": 3, "learning_rate": 0.003, "unfreeze": 2})


def test_workers_change_nothing_whatever_is_on():
    config = make_config(WARM[:1], augment=MIXING, **OPTIONS)
    helped = make_config(WARM[:1], augment=MIXING, workers=1, **OPTIONS)
    assert_same(fitted(config)[1].weights, fitted(helped)[1].weights)


@functools.cache
def plain():
    return fitted(make_config(PHASES))[1].weights


@pytest.mark.parametrize("option", [*OPTIONS, *MIXING, "warm-up", "all"])
def test_with_any_option_going_on_ends_as_if_never_interrupted(tmp_path, option):
    every = option == "all"
    options = OPTIONS if every else {key: value for key, value in OPTIONS.items() if key == option}
    augment = MIXING if every else {key: value for key, value in MIXING.items() if key == option}
    config = make_config(WARM if every or option == "warm-up" else PHASES, augment=augment, **options)
    states = []
    _, whole = fitted(config, save=states.append)
    checkpoint.save(tmp_path / "checkpoint.pt", states[0], "c", "d")
    _, resumed = fitted(config, state=checkpoint.load(tmp_path / "checkpoint.pt", "c", "d"))
    assert_same(whole.best, resumed.best)
    assert_same(whole.weights, resumed.weights)
    assert whole.history == resumed.history
    # What is off by default does something when it is on.
    assert not torch.equal(whole.weights["head.weight"], plain()["head.weight"])


PHASES = ({"epochs": 2, "learning_rate": 0.01}, {"epochs": 3, "learning_rate": 0.003, "unfreeze": 2})


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_going_on_from_any_epoch_ends_as_if_never_interrupted(done):
    config = make_config(PHASES, augment={"flip_vertical": True})
    states = []
    _, whole = fitted(config, save=states.append)
    _, resumed = fitted(config, state=states[done - 1])
    assert_same(whole.best, resumed.best)
    assert_same(whole.weights, resumed.weights)
    assert whole.history == resumed.history


def test_a_finished_fit_is_not_done_again():
    config = make_config()
    model, state = fitted(config)
    again, same = fitted(config, state=state)
    assert same.history == state.history
    assert_same(again.state_dict(), model.state_dict())


@pytest.mark.parametrize(("unfreeze", "learning"), [(0, ()), (1, (2,)), (2, (1, 2)), ("all", (0, 1, 2))])
def test_only_unfrozen_stages_change_their_weights_and_statistics(unfreeze, learning):
    config = make_config([{"epochs": 1, "learning_rate": 0.01, "unfreeze": unfreeze}])
    before = make_model(config, 2).state_dict()
    after, _ = fitted(config)
    changed = {name.rsplit(".", 1)[0] for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    modules = {name.rsplit(".", 1)[0] for name in before}
    assert changed == {name for name in modules if name == "head" or name.startswith(tuple(f"stages.{k}." for k in learning))}


def test_the_best_weights_are_kept_and_early_stopping_ends_each_phase():
    # The validation labels contradict the training labels: the better the fit, the worse the loss.
    contrary = Images(VAL.pixels, VAL.rows, 1 - VAL.labels)
    phases = [{"epochs": 30, "learning_rate": 0.01, "unfreeze": "all"}] * 2
    model, state = fitted(make_config(phases, patience=2), val=contrary)
    losses = [epoch["val_loss"] for epoch in state.history]
    best = int(np.argmin(losses))
    assert validate(model, contrary, make_config(), ONES)[0] == pytest.approx(min(losses))
    assert state.best_loss == min(losses)
    first = [epoch["val_loss"] for epoch in state.history if epoch["phase"] == 1]
    assert len(first) == int(np.argmin(first)) + 1 + 2
    assert best + 1 + 2 <= len(losses) < 30


def test_a_phase_starts_from_the_best_weights_so_far():
    contrary = Images(VAL.pixels, VAL.rows, 1 - VAL.labels)
    still = {"epochs": 1, "learning_rate": 1e-30}
    phases = [{"epochs": 3, "learning_rate": 0.01, "unfreeze": "all"}, still]
    states = []
    fitted(make_config(phases), val=contrary, save=states.append)
    assert states[1].best_loss < states[2].history[-1]["val_loss"]
    assert_same(states[3].weights, states[2].best)


def test_validation_is_the_weighted_mean_over_all_images_whatever_the_batch():
    weight = torch.tensor([3.0, 0.5])
    model = make_model(make_config(), 2).eval()
    torch.nn.init.normal_(model.head.weight)
    logits, _ = model(torch.from_numpy(to_batch(list(VAL.pixels[VAL.rows]), make_config().preprocessing)))
    labels = torch.from_numpy(VAL.labels)
    expected = cross_entropy(logits, labels, weight).item()
    for size in (1, 5, 12):
        loss, accuracy = validate(model, VAL, make_config(batch_size=size), weight)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_label_smoothing_is_in_the_training_loss_alone():
    config = make_config([{"epochs": 1, "learning_rate": 1e-30}], label_smoothing=0.2, batch_size=30)
    _, state = fitted(config)
    assert state.history[0]["val_loss"] == pytest.approx(math.log(2))


def test_more_stages_than_the_network_has_are_refused_before_anything_is_fitted():
    config = make_config([{"epochs": 1, "learning_rate": 0.1}, {"epochs": 1, "learning_rate": 0.1, "unfreeze": 4}])
    states = []
    with pytest.raises(ConfigError, match="from 0 to 3, the network's stages, or all; got 4"):
        fitted(config, save=states.append)
    assert not states


def test_a_loss_that_is_no_number_stops_the_fit():
    with pytest.raises(RunError, match=r"after epoch 1; lower fit\.phases\.0\.learning_rate, and train with --fresh"):
        fitted(make_config([{"epochs": 3, "learning_rate": 1e30, "unfreeze": "all"}]))


def test_pytorchs_settings_and_random_state_are_as_before():
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state())
    with torch_setup.deterministic(before[0] + 1):
        assert torch.get_num_threads() == before[0] + 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(1)
    fitted(make_config())
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_each_epoch_is_logged(caplog):
    caplog.set_level(logging.INFO, "training.fitting.fit")
    fitted(make_config())
    lines = [record.getMessage() for record in caplog.records if record.name == "training.fitting.fit"]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1 of 2 (phase 1): train loss 0.")
    assert re.search(r", best so far, about [0-9]+ s left$", lines[0])
    assert not lines[1].endswith("left")


def plain_network():
    """Without BatchNorm, whose statistics are a batch's own."""
    torch.manual_seed(0)
    stages = [torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.GELU()), torch.nn.Conv2d(8, 8, 3, 2)]
    return Classifier(stages, 8, 2)


UNEVEN = Images(TRAIN.pixels, TRAIN.rows, (np.arange(30) % 5 == 0).astype(np.int64))


@pytest.mark.parametrize("augment", [{}, {"flip_horizontal": True}])
@pytest.mark.parametrize("options", [{}, {"focal_gamma": 2.0, "label_smoothing": 0.1, "clip_norm": 0.01}])
def test_accumulated_batches_are_one_big_one(options, augment):
    # Weighted classes: each batch has to count by its weights, and not by its images.
    phases = [{"epochs": 2, "learning_rate": 0.01, "unfreeze": "all"}]
    big = fit(plain_network(), UNEVEN, VAL, make_config(phases, augment=augment, batch_size=15, **options))
    config = make_config(phases, augment=augment, batch_size=5, accumulate=3, **options)
    small = fit(plain_network(), UNEVEN, VAL, config)
    for name, value in big.weights.items():
        np.testing.assert_allclose(small.weights[name], value, atol=1e-6)
    assert small.history[0]["train_loss"] == pytest.approx(big.history[0]["train_loss"], abs=1e-6)


def test_the_gradient_is_cut_to_the_norm_by_a_naive_computation():
    # AdamW does not care how long the first gradient is, but its first moment remembers: 0.1 times the gradient.
    def gradient(clip_norm):
        states = []
        config = make_config([{"epochs": 1, "learning_rate": 0.01, "unfreeze": "all"}], batch_size=30, clip_norm=clip_norm)
        fit(plain_network(), TRAIN, VAL, config, save=states.append)
        moments = states[0].optimizer["state"]
        return torch.cat([moments[number]["exp_avg"].flatten() / 0.1 for number in sorted(moments)])

    whole = gradient(None)
    norm = math.sqrt(sum(value**2 for value in whole.tolist()))
    assert norm > 0.01
    np.testing.assert_allclose(gradient(0.01), whole * 0.01 / norm, atol=1e-6)
    np.testing.assert_allclose(gradient(10 * norm), whole, atol=1e-7)


def test_the_moving_average_is_the_recursions_and_is_what_is_validated_and_kept():
    # One step an epoch, so that the weights of every step are there to be seen.
    phases = [{"epochs": 4, "learning_rate": 0.02, "unfreeze": "all"}]
    config = make_config(phases, batch_size=30, ema_decay=0.6, class_weights="none")
    states, without = [], []
    fitted(config, save=states.append)
    fitted(make_config(phases, batch_size=30, class_weights="none"), save=without.append)
    expected = None
    for state, other in zip(states[:4], without[:4], strict=True):
        assert_same(state.weights, other.weights)  # the steps themselves are the same
        weights = {name: value.double() for name, value in state.weights.items()}
        before = expected or weights
        expected = {name: 0.6 * before[name] + 0.4 * value for name, value in weights.items()}
        for name, value in expected.items():
            if value.ndim:  # BatchNorm's statistics too, but not its count of batches
                np.testing.assert_allclose(state.average[f"module.{name}"], value, atol=1e-6)
        model = make_model(config, 2)
        model.load_state_dict({name: state.average[f"module.{name}"] for name in weights})
        assert state.history[-1]["val_loss"] == pytest.approx(validate(model, VAL, config, ONES)[0], abs=1e-6)
    best = min(range(4), key=lambda epoch: states[epoch].best_loss)
    assert all(torch.equal(value, states[best].average[f"module.{name}"]) for name, value in states[-1].best.items())
    assert states[4].average is None


def test_what_is_sampled_evenly_is_validated_evenly():
    uneven = Images(VAL.pixels, VAL.rows, (np.arange(12) % 4 == 0).astype(np.int64))
    config = make_config([{"epochs": 1, "learning_rate": 0.01, "unfreeze": "all"}], class_weights="sampled")
    model, state = fitted(config, train=UNEVEN, val=uneven)
    expected = validate(model, uneven, config, class_weights(UNEVEN.labels, 2, "balanced"))[0]
    assert state.history[0]["val_loss"] == pytest.approx(expected)


def test_bfloat16_computes_in_it_and_leaves_weights_in_float32():
    kinds = set()
    model = make_model(make_config(), 2)
    model.stages[1].register_forward_hook(lambda _module, _inputs, maps: kinds.add(maps.dtype) if model.training else None)
    state = fit(model, TRAIN, VAL, make_config(precision="bf16", phases=[{"epochs": 1, "learning_rate": 0.01}]))
    assert kinds <= {torch.bfloat16}
    assert {value.dtype for value in state.weights.values()} == {torch.float32, torch.int64}


def test_precision_auto_leaves_the_cpu_as_it_is():
    assert_same(fitted(make_config(precision="auto", device="auto"))[1].weights, fitted(make_config())[1].weights)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match=r"fit\.device cuda: PyTorch sees 0 GPUs"):
        fitted(make_config(device="cuda"))
