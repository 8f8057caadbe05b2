"""A training that is killed between two epochs goes on from its checkpoint to the same bytes."""

import hashlib
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from training.fitting import checkpoint
from training.runs import write_weights

FITTING = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import numpy as np
    from tests.unit.configs import make_config
    from training.fitting import checkpoint
    from training.fitting.batches import Images
    from training.fitting.fit import fit
    from training.fitting.pretrained import make_model

    def run(folder, slowly):
        phases = [{"epochs": 2, "learning_rate": 0.01}, {"epochs": 4, "learning_rate": 0.01, "unfreeze": "all"}]
        augment = {"flip_horizontal": True, "contrast": 0.2}
        config = make_config(augment=augment, fit={"phases": phases, "batch_size": 8})
        pixels = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
        rows = np.arange(32)
        train, val = Images(pixels, rows[:24], rows[:24] % 2), Images(pixels, rows[24:], rows[24:] % 2)

        def save(state):
            checkpoint.save(folder / "checkpoint.pt", state, config.digest, "d")
            if slowly:
                print(len(state.history), flush=True)
                time.sleep(0.2)

        state = checkpoint.load(folder / "checkpoint.pt", config.digest, "d")
        model = make_model(config, 2)
        return len(state.history) if state else 0, fit(model, train, val, config, state, save)

    if __name__ == "__main__":
        run(Path(sys.argv[1]), slowly=True)
    """
)


def test_killed_and_resumed_gives_the_same_bytes_as_uninterrupted(tmp_path):
    scope: dict = {"__name__": "fitting"}
    exec(FITTING, scope)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    command = [sys.executable, "-c", FITTING, str(killed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(checkpoint.__file__).parents[2]) as process:
        for line in process.stdout:
            if line.strip() == "3":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    (_, uninterrupted), (done, resumed) = scope["run"](whole, False), scope["run"](killed, False)
    assert done == 3
    assert resumed.history == uninterrupted.history
    digests = [write_weights(folder, s.best) for folder, s in ((whole, uninterrupted), (killed, resumed))]
    assert digests[0] == digests[1] == hashlib.sha256((whole / "model.safetensors").read_bytes()).hexdigest()
