"""The benchmark of batch scoring: flags, and the best of each figure."""

from loadtests.bench.scoring import Rates, best, parse_args


def test_the_best_of_each_figure_counts() -> None:
    rounds = [Rates(10.0, 9.0, 8.0, 5.0, 4.0), Rates(11.0, 7.0, 8.5, 4.0, 6.0)]
    assert best(rounds) == Rates(11.0, 9.0, 8.5, 5.0, 6.0)


def test_flags() -> None:
    args = parse_args(["--network", "efficientnet_lite0", "--images", "10"])
    assert (args.network, args.images, args.rounds) == ("efficientnet_lite0", 10, 2)
