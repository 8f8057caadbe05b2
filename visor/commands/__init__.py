"""Each module declares one command of `visor` in `add`; its `run` calls one job and prints the result.

What is heavy (torch, MLflow, the jobs) is imported by `run` alone, so that `visor --help` answers at once.
"""
