"""Seeds made of several numbers, so that a random draw depends on nothing but what it is for."""

import numpy as np


def seed_of(*parts: int) -> int:
    """Mix several numbers, such as the config's seed, an epoch and a batch, into one seed of 32 bits."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
