"""The config's keys of the images and their splits."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from training.config.section import DataLabel, Fraction, Section

Source = Literal["digits", "roofs", "imagefolder", "cifar10", "fashion-mnist", "caltech101", "plantvillage"]
Layout = Literal["auto", "labels", "splits"]
BUILT_IN = ("digits", "roofs")
DOWNLOADED = ("cifar10", "fashion-mnist", "caltech101")


class SplitConfig(Section):
    """Shares of the splits, for data sets that do not bring their own. The images that are left are trained on."""

    val: Fraction = 0.15
    """Share of the images in the validation split, whose loss chooses the epoch that is kept."""
    calibration: Fraction = 0.15
    """Share of the images in the calibration split, by which confidences are calibrated and the threshold is chosen."""
    test: Fraction = 0.15
    """Share of the images in the test split, which every figure of the report is measured on and which chooses nothing."""
    sealed: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the images that nothing looks at, neither training nor evaluation, until `visor compare --sealed` measures the run
    that was chosen. They are taken from the training images, and the other splits stay as they are. By default there are none."""

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        held_out = self.val + self.calibration + self.test + self.sealed
        if held_out >= 0.9:
            raise ValueError(f"val + calibration + test + sealed must stay under 0.9, got {held_out:.2f}")
        return self


class DataConfig(Section):
    """Which images are learnt from, and how they are split."""

    source: Source
    """Kind of data set. "digits" and "roofs" are built in and written to disk at first use; "imagefolder" reads a folder of one
    folder for each label; the others are published sets, read in the form in which they are published."""
    path: Path | None = None
    """Folder of the images. An imagefolder needs it, a built-in set refuses it, and a published set that is downloaded lies
    below the home folder's `data/published` without it."""
    layout: Layout = "auto"
    """Whether the folders at the top of an imagefolder are "labels" or "splits"; as splits, those of other names are left out. By
    default their names and contents decide, and a folder that can be read in both ways is an error."""
    download: bool = False
    """Whether torchvision fetches a published set that `path` does not hold. Off, so that no run uses the network unasked."""
    classes: tuple[DataLabel, ...] | None = Field(default=None, min_length=2)
    """Labels to take; images of other labels are left out. By default all labels."""
    top_classes: int | None = Field(default=None, ge=2)
    """Number of labels to take, those with the most images, instead of a list in `classes`. By default all labels."""
    variant: Literal["color", "grayscale", "segmented"] | None = None
    """Variant of PlantVillage, which holds every leaf in three. By default the one whose folder `path` is, else "color"."""
    count: int = Field(default=2400, ge=40)
    """Number of roofs to generate, for source "roofs" alone."""
    size: int = Field(default=224, ge=48, le=1024)
    """Side of a generated roof in pixels, for source "roofs" alone. The default is what ImageNet's networks are trained with."""
    seed: int = 0
    """Seed of the generated roofs and of the splits. The weights and batches are drawn by the config's own `seed`."""
    labelled_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training split, label by label, whose labels `visor train` learns from; the config's `seed` draws it."""
    splits: SplitConfig = SplitConfig()
    """Shares of the splits, for data sets that do not bring their own."""
    group_pattern: str | None = None
    """Regular expression that is searched in each image's relative path. Images whose first group matches the same text, such as
    pictures of one building or one plant, stay in one split. By default every image is drawn by itself."""
    leaks: Literal["error", "warn", "allow"] | None = None
    """What happens when near-duplicates lie in two splits, or when `model.pretrained` has learnt from images that this run
    validates, calibrates or tests on. By default an error; of near-duplicates a warning where nobody here chose the splits: for
    built-in sets and for CIFAR-10 and Fashion-MNIST, which are published with theirs."""
    near_duplicate_bits: int = Field(default=16, ge=0, le=64)
    """Number of the 256 bits of their perceptual hashes in which two near-duplicates may differ. The default finds pictures that
    were saved again, scaled or made brighter; docs/data.md says what other values find."""

    @field_validator("path", mode="before")
    @classmethod
    def _path_is_not_empty(cls, value: object) -> object:
        """Refuse an empty text, of which a path would make the working folder."""
        if value == "":
            raise ValueError("must name a folder; the one that the command runs in is .")
        return value

    @model_validator(mode="after")
    def _path_is_given(self) -> Self:
        if self.download and self.source not in DOWNLOADED:
            raise ValueError(f"data.download is for {', '.join(DOWNLOADED)}")
        if self.layout != "auto" and self.source != "imagefolder":
            raise ValueError("data.layout is for source imagefolder")
        if self.path is not None and self.source in BUILT_IN:
            raise ValueError("data.path belongs to source imagefolder and to the published sets, not to one that is built in")
        if self.path is None and self.source not in BUILT_IN and not self.download:
            raise ValueError(f"data.path belongs to source imagefolder and to the published sets; say where {self.source} is")
        if self.source == "roofs" and self.seed < 0:
            raise ValueError(f"data.seed {self.seed} draws no roofs; give 0 or more")
        return self

    @model_validator(mode="after")
    def _classes_are_chosen_once(self) -> Self:
        if self.classes is not None and self.top_classes is not None:
            raise ValueError("data.classes names what data.top_classes counts; leave one of them out")
        return self
