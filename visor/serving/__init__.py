"""Running TorchServe as a process with its workers, and `visor serve`, which puts the edge before it."""
