import math

import pytest
import torch

from training.config import PhaseConfig
from training.fitting.schedules import cosine, learning_rate


def test_cosine_goes_from_the_rate_through_its_half_to_zero():
    assert [cosine(0.1, done, 4) for done in (0, 2, 4)] == pytest.approx([0.1, 0.05, 0])
    assert cosine(0.1, 1, 4) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)


def test_without_warm_up_every_step_is_on_the_cosine():
    phase = PhaseConfig(epochs=3, learning_rate=0.2)
    assert [learning_rate(phase, step, 5, epoch) for epoch in range(3) for step in range(5)] == [
        cosine(0.2, epoch + step / 5, 3) for epoch in range(3) for step in range(5)
    ]


@pytest.mark.parametrize(("epochs", "warmup", "steps"), [(4, 1, 5), (3, 2, 7), (5, 0.5, 8)])
def test_warm_up_and_cosine_are_torchs_schedulers_one_after_the_other(epochs, warmup, steps):
    phase = PhaseConfig(epochs=epochs, learning_rate=0.3, warmup_epochs=warmup)
    rising = int(warmup * steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    first = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / rising, total_iters=rising - 1)
    second = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * steps - rising)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, second], milestones=[rising])
    for epoch in range(epochs):
        for step in range(steps):
            assert learning_rate(phase, step, steps, epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
            optimizer.step()
            scheduler.step()
