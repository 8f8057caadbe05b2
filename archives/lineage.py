"""Where an archive came from: code, data, config, MLflow run, versions, time and metrics; `lineage.json` in the archive."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from handlers.errors import ArchiveBroken
from handlers.spec import BackendName, Frozen

RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,255}$")]
"""MLflow's own form of run ids: nothing that would mean something in its filters, or in a path."""


class Pretrained(Frozen):
    """The weights that a fit started from: their file's SHA-256, and what `visor pretrain` wrote into it, if that made it."""

    weights_digest: str
    method: str | None = None
    config_digest: str | None = None
    dataset_digest: str | None = None


class Reviews(Frozen):
    """What one `visor data from-reviews` added to a data set: pictures that people labelled, who are named by pseudonym alone.

    `parent_digest`: of the data set that was added to; `export_digest`: SHA-256 of the export's reviews.jsonl. `taken`: pictures
    by the split that they are in now, of which "sealed" holds the audits; `left_out`: pictures by the reason. Of those that were
    taken: `reviewers`, pictures by pseudonym, one with several reviews counted for each; `archives`: pictures by the digest of
    the archive whose answer was reviewed; `first` and `last`: when their first and last review was given.
    """

    parent_digest: str
    export_digest: str
    taken: dict[str, int]
    left_out: dict[str, int]
    reviewers: dict[str, int]
    archives: dict[str, int]
    first: datetime
    last: datetime


class Parity(Frozen):
    """How an export answers beside torch, the reference, on validation images; `training.packing.parity` holds the rule.

    `images`: how many were asked; `label_agreement`: the share of them that both give the same label. The differences are the
    largest of any image. Heat maps are compared for torch's label: `heatmap_correlation` is the mean of Pearson's,
    `heatmap_iou` the mean overlap of what exceeds half the maximum; null where nothing could be compared. `openvino`: the
    version that converted and answered; `quantisation_images`: how many training images a quantisation saw, null without one.

    Archives before 0.3 asked the test split and compared decisions: `decision_agreement` and `fnr` (null without a positive
    image) are theirs, and `calibration_images`, of the calibration split, which quantised then.
    """

    holds: bool
    images: int
    label_agreement: float | None = None
    decision_agreement: float | None = None
    max_logit_difference: float
    max_probability_difference: float
    max_heatmap_difference: float
    heatmap_correlation: float | None = None
    heatmap_iou: float | None = None
    accuracy: dict[BackendName, float]
    fnr: dict[BackendName, float] | None = None
    openvino: str
    quantisation_images: int | None = None
    calibration_images: int | None = None

    def describe(self) -> str:
        """Describe in words the figures that the rule looks at."""
        (backend,) = self.accuracy.keys() - {"torch"}
        if self.label_agreement is not None:
            sentence = f"labels agree on {self.label_agreement:.1%} of {self.images} validation images, "
        else:
            sentence = f"decisions agree on {self.decision_agreement or 0:.1%} of {self.images} test images, "
        sentence += f"accuracy {self.accuracy[backend]:.1%} (torch {self.accuracy['torch']:.1%}), "
        if self.label_agreement is not None:
            sentence += f"logits differ by at most {self.max_logit_difference:g}"
        else:
            sentence += f"probabilities differ by at most {self.max_probability_difference:g}"
        if self.heatmap_correlation is not None:
            sentence += f", heat maps correlate by {self.heatmap_correlation:.3f}"
        if self.fnr is not None:
            sentence += f", {self.fnr[backend]:.1%} of the positives missed (torch {self.fnr['torch']:.1%})"
        return sentence


class Lineage(Frozen):
    """Where an archive came from: enough to find the code, the data and the run again.

    `git_commit`, `git_dirty` and `versions` are of the code that fitted, `archive_git_*` of the code that packed (its
    `handlers` travel along); "unknown" and None outside git. `created` is the archive's time, UTC. `parity`: of each export that
    was tried, also where it does not hold; empty where none was, and in archives that are older than it. `pretrained`: the
    weights that the fit started from, null where all were random, and in archives older than it. `reviews`: those that the data
    set was made with, version after version; empty where it has none, and in archives older than it.
    """

    format: Literal[1] = 1
    created: datetime
    git_commit: str
    git_dirty: bool | None
    archive_git_commit: str
    archive_git_dirty: bool | None
    dataset_digest: str
    config_digest: str
    weights_digest: str
    mlflow_run_id: RunId
    tracking_uri: str
    versions: dict[str, str]
    metrics: dict[str, Any]
    parity: dict[BackendName, Parity] = Field(default_factory=dict)
    pretrained: Pretrained | None = None
    reviews: tuple[Reviews, ...] = ()

    @field_validator("parity", mode="before")
    @classmethod
    def _of_one_export(cls, value: Any) -> Any:
        """Read archives of 0.1, which hold one export's parity, or null."""
        return {"openvino": value} if value and "holds" in value else value or {}

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Self:
        """Read `lineage.json`; `where` names it in the error. Raises ArchiveBroken."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as err:
            raise ArchiveBroken(f"{where} is not a valid lineage: {err}") from err
