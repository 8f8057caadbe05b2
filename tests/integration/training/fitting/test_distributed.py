"""Two processes against one: the same fit but for rounding, sums by arithmetic, and an end of one that the other says."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing import Queue

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d

from tests.unit.training.fitting.test_fit import TRAIN, VAL, make_config
from training.fitting.distributed import ALONE, Group, joined, synchronised
from training.fitting.fit import fit
from training.fitting.pretrained import make_model
from visor.serving.ports import free_ports

PHASES = [{"epochs": 2, "learning_rate": 0.01, "unfreeze": "all"}]
OPTIONS = {"batch_size": 10, "accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.5, "focal_gamma": 1.0}
Work = Callable[[Group], object]


def _run(rank: int, port: int, works: Sequence[Work], queue: "Queue[tuple[int, list]]") -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined() as group:
        queue.put((rank, [work(group) for work in works]))


@pytest.fixture(scope="module")
def both() -> dict[Work, list]:
    """What each work returns in each of two processes, with the environment that torchrun would give them.

    The processes run all works, one after the other: to start them takes longer than what they do.
    """
    works = (fitted, gradients_of_a_part, told)
    [port] = free_ports(1)
    context = multiprocessing.get_context("spawn")  # forked, it would have none of its threads
    queue = context.Queue()
    processes = [context.Process(target=_run, args=(rank, port, works, queue), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=200) for _ in processes)
    for process in processes:
        process.join(30)
    return {work: [results[0][number], results[1][number]] for number, work in enumerate(works)}


def fitted(group: Group) -> tuple[list, dict, dict]:
    """Without dropout, whose masks are each process's own."""
    config = make_config(PHASES, **OPTIONS)
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})
    saved = []
    state = fit(make_model(config, 2), TRAIN, VAL, config, save=saved.append, group=group)
    weights, best = ({name: value.numpy() for name, value in part.items()} for part in (state.weights, state.best))
    assert len(saved) == (3 if group.leads else 0)
    return state.history, weights, best


def test_two_processes_fit_what_one_does_and_end_alike_to_the_bit(both):
    (history, weights, best), second = both[fitted]
    assert history == second[0]
    for name, value in best.items():
        np.testing.assert_array_equal(second[2][name], value)
    alone, their_weights, _ = fitted(ALONE)
    for epoch, other in zip(history, alone, strict=True):
        assert epoch == pytest.approx(other, abs=1e-4)
    # AdamW divides a gradient by its own size: where there is next to none, rounding decides, and the last digits differ.
    apart = np.concatenate([np.abs(value - their_weights[name]).ravel() for name, value in weights.items()])
    assert np.quantile(apart, 0.99) < 1e-4
    assert apart.max() < 0.01  # the learning rate; 4 steps


IMAGES = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
UNEVEN = (slice(0, 2), slice(2, 6))


def network() -> torch.nn.Sequential:
    """A convolution, and BatchNorm as torch and as timm have it."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 1), BatchNormAct2d(4)]
    return torch.nn.Sequential(*layers).double().train()


def gradients(group: Group, images: torch.Tensor) -> dict:
    """Of the sum of squares of all outputs, and BatchNorm's statistics afterwards."""
    model = network()
    with synchronised(model, group):
        (model(images) ** 3).sum().backward()
    group.add_gradients(list(model.parameters()))
    state = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    return state | {name: buffer.numpy() for name, buffer in model.named_buffers()}


def gradients_of_a_part(group: Group) -> dict:
    return gradients(group, IMAGES[UNEVEN[group.rank]])


def test_batch_norm_and_gradients_are_those_of_all_images_together(both):
    first, second = both[gradients_of_a_part]
    expected = gradients(ALONE, IMAGES)
    alone = gradients(ALONE, IMAGES[UNEVEN[0]])
    for name, value in expected.items():
        np.testing.assert_allclose(first[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(first[name], second[name])
    assert np.abs(alone["1.running_mean"] - expected["1.running_mean"]).max() > 1e-3


def told(group: Group) -> tuple[list[float], list]:
    return group.add(group.rank + 1.0, 2.0), group.share(["mine", group.rank])


def test_sums_and_what_the_first_one_has_reach_all(both):
    assert both[told] == [([3.0, 4.0], ["mine", 0])] * 2
    assert (ALONE.add(1.0, 2.0), ALONE.share("x")) == ([1.0, 2.0], "x")
