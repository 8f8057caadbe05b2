"""The model card (Mitchell et al.: Model Cards for Model Reporting, FAT* 2019) as Markdown and as HTML, from one content.

What a run knows is filled in; what only people know comes from the config's `card` and is otherwise said to be missing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.errors import counted
from handlers.spec import BetaScaling, Spec
from training.config import CardConfig, Config
from training.data.manifest import Manifest
from training.decisions import conformal
from training.reports import leaks, tables
from training.reports.evaluation import describe_rule, figures, known
from training.reports.pages import environment, number, share
from training.reports.tables import Table, interval, of_images

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


@dataclass(frozen=True)
class Section:
    """A heading of the card, doubts that come first, its paragraphs and its tables."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


def sections(
    spec: Spec,
    metrics: Mapping[str, Any],
    config: Config,
    manifest: Manifest,
    lineage: Mapping[str, str],
    notes: Sequence[str] = (),
) -> list[Section]:
    """Write the card's nine sections, in Mitchell's order."""
    card, data = config.card, config.data
    return [
        Section("Model details", _details(spec, card), [Table(("", ""), list(lineage.items()))], notes),
        Section(
            "Intended use",
            [
                _told("Intended use", card.intended_use, "intended_use"),
                _told("Out of scope", card.out_of_scope, "out_of_scope"),
                f"It tells {_list(spec.labels)} apart in still pictures. What shows none of them gets one of these all the same.",
            ],
        ),
        Section("Factors", _factors(metrics)),
        Section("Metrics", describe_rule(spec), [Table(("figure", "value", "meaning"), figures(spec, metrics))]),
        Section(
            "Evaluation data",
            [_split(manifest, "test", leaks.describe(metrics, ", which training and calibration never saw"))],
        ),
        Section(
            "Training data",
            [
                f"Source: {data.source}. " + _split(manifest, "train", ", augmented as the config says"),
                _split(manifest, "val", ", to stop by"),
                _split(manifest, "calibration", ", for scaling, threshold and bounds alone"),
            ],
            [_counts(manifest)],
        ),
        Section("Quantitative analyses", _analyses(metrics), [*_tables(spec, metrics), *_by_subgroup(metrics)]),
        Section("Ethical considerations", [_told("Considerations", card.ethics, "ethics")]),
        Section("Caveats and recommendations", [_told("Caveats", card.caveats, "caveats"), *_recommendations(spec)]),
    ]


def markdown(name: str, content: Sequence[Section]) -> str:
    """Render the card as Markdown. Names are taken as text, whatever characters they hold."""
    made = environment()
    made.filters["md"] = _escape
    return made.get_template("model_card.md.j2").render(name=name, sections=content)


def html(name: str, content: Sequence[Section], digest: str = "") -> str:
    """Render the card as one HTML file that needs nothing beside it. `digest`: of the data set."""
    return environment().get_template("model_card.html.j2").render(name=name, sections=content, digest=digest)


def _details(spec: Spec, card: CardConfig) -> list[str]:
    calibrated = f"temperature scaling, T = {spec.temperature:.3f}"
    if isinstance(spec.scaling, BetaScaling):
        calibrated = "a slope for each label and a bias (beta calibration)"
    elif spec.scaling:
        calibrated = "a weight and a bias for each label (vector scaling)"
    size = f"{spec.preprocessing.width} x {spec.preprocessing.height} pixels ({spec.preprocessing.fit})"
    return [
        (
            f"{spec.name}, an image classifier of {counted(len(spec.labels), 'label')}: {_list(spec.labels)}. Network: "
            f"{spec.network}, on {size}; confidences by {calibrated}; heat maps by Grad-CAM. It answers by {spec.backend}, on "
            "whose answers calibration, threshold and bounds were fitted and every figure was measured."
        ),
        f"Owner: {card.owner or 'not stated'}. Contact: {card.contact or 'not stated'}. License: {card.license or 'not stated'}.",
    ]


def _factors(metrics: Mapping[str, Any]) -> list[str]:
    if subgroups := metrics.get("subgroups"):
        return [f"Evaluated group by group of {_list(list(subgroups))}; the tables below have the figures."]
    return ["No subgroups were told apart: the figures are means over all test images. decision.subgroups takes a CSV of groups."]


def _analyses(metrics: Mapping[str, Any]) -> list[str]:
    found = []
    if game := metrics.get("pointing_game"):
        found.append(
            f"Heat maps: {of_images(game['score'], game['images'])} of {game['images']} peak on the mask of what they should "
            "show."
        )
    if sets := metrics.get("prediction_sets"):
        found.append(
            f"Prediction sets ({sets['method'].upper()}, coverage {share(sets['coverage'])}) held the true label of "
            f"{share(sets['test_coverage'])}{known(sets, 'test_coverage')} of the test images, with "
            f"{sets['mean_size']:.2f} labels on average."
        )
    if costs := metrics.get("impact"):
        told = ", ".join(f"{name}: {row['cost']:.1f}" for name, row in costs.items())
        found.append(f"Expected cost of 1,000 such images at the stated prices: {told}.")
    return found


def _tables(spec: Spec, metrics: Mapping[str, Any]) -> list[Table]:
    made = [tables.classes(metrics), tables.calibration(spec, metrics["calibration"])]
    return made + ([tables.mix(metrics["prevalence"]["rules"])] if metrics.get("prevalence") else [])


def _by_subgroup(metrics: Mapping[str, Any]) -> list[Table]:
    return [
        Table(
            (column, "images", "accuracy", "missed", "ECE"),
            [
                (name, str(row["images"]), interval(row, "accuracy"), interval(row, "fnr"), number(row["ece"]))
                for name, row in rows.items()
            ],
        )
        for column, rows in (metrics.get("subgroups") or {}).items()
    ]


def _counts(manifest: Manifest) -> Table:
    counted = {(sample.label, sample.split): 0 for sample in manifest.samples}
    for sample in manifest.samples:
        counted[sample.label, sample.split] += 1
    return Table(
        ("label", *manifest.splits),
        [(label, *(str(counted.get((label, split), 0)) for split in manifest.splits)) for label in manifest.labels],
    )


def _split(manifest: Manifest, split: str, what: str) -> str:
    return f"{sum(sample.split == split for sample in manifest.samples)} images of the {split} split{what}."


def _recommendations(spec: Spec) -> list[str]:
    found = [
        "All figures hold for images like those of the test split: another camera, season, region or mix of labels changes them."
    ]
    if spec.decision.fnr_bound:
        found.append(
            f"{conformal.promise(spec.decision.fnr_bound, ' or '.join(spec.decision.positive))}. It is no promise for any one "
            "subgroup of images."
        )
    return found


def _told(title: str, text: str | None, key: str) -> str:
    return f"{title}: {text}" if text else f"{title}: not stated (card.{key} in the config)."


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _escape(text: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
