import logging
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from handlers.decode import to_batch
from training import machine
from training.config import Config
from training.errors import ConfigError, DataError, RunError
from training.fit import Images, class_weights, cosine, fit, validate
from training.pretrained import make_model

ONES = torch.ones(2)


def make_config(phases=({"epochs": 2, "learning_rate": 0.01, "unfreeze": "all"},), seed=0, augment=None, **options):
    return Config.model_validate(
        {
            "name": "test",
            "seed": seed,
            "data": {"source": "digits"},
            "preprocessing": {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
            "model": {"network": "small_cnn"},
            "augment": augment or {},
            "fit": {"phases": phases, "batch_size": 8, "threads": 1, **options},
        }
    )


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
        assert accuracy == (logits.argmax(1) == labels).float().mean().item()


def test_balanced_weights_give_every_class_the_same_sum():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    assert class_weights(labels, 3, "balanced").tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert class_weights(labels, 3, "none").tolist() == [1, 1, 1]


def test_a_class_without_images_is_named():
    with pytest.raises(DataError, match="class 1, 3 of 4"):
        class_weights(np.array([0, 2, 2]), 4, "balanced")


def test_cosine_goes_from_the_rate_through_its_half_to_zero():
    assert [cosine(0.1, done, 4) for done in (0, 2, 4)] == pytest.approx([0.1, 0.05, 0])
    assert cosine(0.1, 1, 4) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)


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
    with pytest.raises(RunError, match=r"after epoch 1; lower the learning rate of phase 1"):
        fitted(make_config([{"epochs": 3, "learning_rate": 1e30, "unfreeze": "all"}]))


def test_pytorchs_settings_and_random_state_are_as_before():
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state())
    with machine.deterministic(before[0] + 1):
        assert torch.get_num_threads() == before[0] + 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(1)
    fitted(make_config())
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_each_epoch_is_logged(caplog):
    caplog.set_level(logging.INFO, "training.fit")
    fitted(make_config())
    lines = [record.getMessage() for record in caplog.records if record.name == "training.fit"]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1 (phase 1): train loss 0.")
    assert lines[0].endswith("best so far")
