"""What `visor compare` prints: runs beside each other, and never a key that touches its value."""

from visor.commands.compare import beside

HEAD = ["run", "accuracy", "fit.phases.1.learning_rate"]
ROWS = [["runs/a (champion)", "0.9 [0.8, 1.0]", "0.003"], ["runs/b", "0.8", "0.1"], ["runs/c", "0.7", "0.2"]]


def test_runs_stand_beside_each_other() -> None:
    assert list(beside(HEAD, ROWS, 120)) == [
        "run                         runs/a (champion)  runs/b  runs/c",
        "accuracy                    0.9 [0.8, 1.0]     0.8     0.7",
        "fit.phases.1.learning_rate  0.003              0.1     0.2",
        "",
    ]


def test_what_does_not_fit_stands_below() -> None:
    shown = list(beside(HEAD, ROWS, 55))
    assert [line.split()[1:] for line in shown if line.startswith("accuracy")] == [["0.9", "[0.8,", "1.0]", "0.8"], ["0.7"]]
    assert all(len(line) <= 55 for line in shown)
    assert len([line for line in beside(HEAD, ROWS, 1) if line.startswith("run ")]) == 3
