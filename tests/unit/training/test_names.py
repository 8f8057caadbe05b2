"""Flat names, and MLflow's keys for them: MLflow's own rules are asked whether it would take them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from training.names import LENGTH, describe_differing, differing, flatten, keys_of


def test_flatten_names_leaves_and_numbers_lists_of_mappings_as_a_config_does() -> None:
    tree = {"fit": {"batch": 8, "phases": [{"epochs": 1}, {"epochs": 2}]}, "mean": (0.5, 0.5), "none": None, "empty": []}
    assert list(flatten(tree)) == [
        ("fit.batch", 8),
        ("fit.phases.0.epochs", 1),
        ("fit.phases.1.epochs", 2),
        ("mean", (0.5, 0.5)),
        ("none", None),
        ("empty", []),
    ]


def test_trees_differ_in_leaves_that_one_lacks_too() -> None:
    assert differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [("a.c", 2, 3), ("d", None, 4)]
    assert differing({"a": [1]}, {"a": [1]}) == []
    assert describe_differing({"a": 1}, {"a": "x"}) == "a is 1 there and x here"
    assert describe_differing({}, {"a": 1}) == ""
    many = describe_differing({f"k{n}": 0 for n in range(8)}, {f"k{n}": 1 for n in range(8)})
    assert many.endswith("k4 is 0 there and 1 here, and 3 more keys differ")


@pytest.mark.parametrize(
    "names", [("per_class.a,b.auroc", "per_class.a;b.auroc"), ("per_class.a_b.auroc", "per_class.a,b.auroc")]
)
def test_two_labels_never_share_a_key(names: tuple[str, str]) -> None:
    first, second = keys_of(names).values()
    assert first != second
    assert {first, second} != {"per_class.a_b.auroc"}
    assert all(key.startswith("per_class.a_b.auroc") for key in (first, second))


def test_a_name_that_is_a_key_stays_as_it_is_and_one_alone_is_not_marked() -> None:
    assert keys_of(["per_class.a_b.auroc", "per_class.a,b.auroc"])["per_class.a_b.auroc"] == "per_class.a_b.auroc"
    assert keys_of(["per_class.a,b.auroc"]) == {"per_class.a,b.auroc": "per_class.a_b.auroc"}


def test_long_names_are_shortened_and_stay_apart() -> None:
    long = [f"subgroups.{'x' * 280}.{end}" for end in ("fnr", "fpr")]
    keys = list(keys_of(long).values())
    assert len(set(keys)) == 2
    assert [len(key) for key in keys] == [LENGTH, LENGTH]
    assert keys == list(keys_of(reversed(long)).values())[::-1]


@given(st.lists(st.text(max_size=300).map("per_class.{}.auroc".format), max_size=8, unique=True))
def test_mlflow_takes_each_key_and_none_is_anothers(names: list[str]) -> None:
    keys = keys_of(names)
    assert len(set(keys.values())) == len(names)
    for key in keys.values():
        _validate_metric_name(key)
        assert len(key) <= LENGTH
