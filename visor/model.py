"""An archive that answers in this process, by the code that also serves it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace

from archives import store as stores
from archives.opening import opened
from drawing.heatmap import HeatMap
from handlers import decision, predictor
from handlers.backends import Backend, load_backend
from handlers.errors import OptionError, VisorError
from handlers.predictor import Item
from handlers.spec import WHOLE, Spec
from training import settings
from visor.answers import Answer, Answering, Question
from visor.paths import path_of
from visor.pictures import Picture, read


class Model(Answering):
    """A loaded archive. `digest`: SHA-256 of its bytes; `labels`: in the order of the probabilities."""

    def __init__(self, spec: Spec, digest: str, backend: Backend) -> None:
        self.name, self.version, self.labels, self.digest = spec.name, spec.version, spec.labels, digest
        self._spec, self._backend = spec, backend

    def __repr__(self) -> str:
        return f"<visor.Model {self.name} version {self.version}, archive {self.digest[:12]}>"

    def ask(self, pictures: Iterable[Picture], question: Question) -> Iterator[Answer]:
        """See Answering.ask. Raises OptionError, GroupUnknown."""
        rule = decision.rule_of(self._spec, question.threshold, question.group)
        decided = Answer(
            threshold=rule.threshold,
            review_from=rule.review_from,
            review_to=rule.review_to,
            group=question.group or "",
            promise=rule.promise or "",
            digest=self.digest,
            model=self.name,
            version=self.version,
            decoding=self._spec.preprocessing.decoding,
        )
        for picture in pictures:
            yield self._answer(picture, question, replace(decided, source=picture))

    def _answer(self, picture: Picture, question: Question, decided: Answer) -> Answer:
        try:
            item = Item(read(picture, self._spec.preprocessing.decoding), question.explain, question.threshold, question.group)
        except VisorError as err:
            return Answer(error=err, source=picture)
        [answer] = predictor.predict([item], self._spec, self._backend)
        if isinstance(answer, VisorError):  # as visor 0.2 said it: no rule beside what it did not decide
            return Answer(error=answer, decision=self._spec.decision.on_error or "", source=picture)
        return replace(
            decided,
            label=answer.label,
            confidence=answer.confidence,
            probabilities=dict(zip(self.labels, answer.probabilities.tolist(), strict=True)),
            decision=answer.decision,
            score=float(decision.scores(answer.probabilities[None], self._spec)[0]),
            prediction_set=set_of(answer, self._spec),
            heatmap=heatmap_of(answer),
        )


def load(
    archive: str | os.PathLike[str],
    public_key: str | os.PathLike[str] | None = None,
    *,
    digest: str | None = None,
    store: str | os.PathLike[str] | None = None,
) -> Model:
    """Verify an archive's signature and load it, to answer in this process.

    `archive`: a .mar file, or NAME or NAME/VERSION in the model store `store`, by default the environment's VISOR_STORE, else
    `model-store`. `public_key`: the file of the key that its signature must hold for; by default the one that VISOR_PUBLIC_KEY
    names, else the .pub beside VISOR_KEY's, else keys/visor.pub. `digest`: SHA-256 that its bytes must have. Raises
    ArchiveRefused, ArchiveUnexpected, ArchiveBroken, KeyFileError, StoreError, OptionError.
    """
    path_of(archive, "archive")  # which is not normalised here, as NAME/VERSION is no path
    if digest is not None and not isinstance(digest, str):
        raise OptionError(f"digest must be a text of 64 hexadecimal digits, got {digest!r}")
    path = stores.find(settings.store() if store is None else path_of(store, "store"), os.fspath(archive))
    key = settings.public_key() if public_key is None else path_of(public_key, "public_key")
    with opened(path, key, digest) as verified, verified.unpacked() as folder:
        return Model(verified.spec, verified.digest, load_backend(folder, verified.spec))


def set_of(answer: predictor.Answer, spec: Spec) -> tuple[str, ...] | None:
    """Return the labels of an answer's prediction set, None in an archive without sets."""
    if spec.prediction_sets is None:
        return None
    [inside] = decision.prediction_sets(answer.probabilities[None], spec.prediction_sets)
    return tuple(label for label, holds in zip(spec.labels, inside, strict=True) if holds)


def heatmap_of(answer: predictor.Answer) -> HeatMap | None:
    """Return an answer's heat map as it is drawn, None where none was asked for."""
    if answer.heatmap is None:
        return None
    return HeatMap(answer.heatmap, answer.heatmap_label or "", answer.heatmap_box or WHOLE, answer.heatmap_peak)
