"""Searching a config's values: the space that is searched, a trial's values and seed, and which trials are done.

A study is a list of slots, one for each set of values to try. A slot's trial that was killed is tried again under another
number, with the values that it had; so a slot's values depend on the seed, its number and the slots before it, and a study
that was killed and resumed tries what an undisturbed one tries.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from handlers.spec import Frozen
from training import keys
from training.config import Config, read_tree
from training.errors import ConfigError
from training.fitting.seeds import seed_of

SEEN = 10
"""Slots that are drawn by chance before the others are drawn by what was learnt (Optuna's own default)."""
FIXED = ("name", "data", "limits", "decision")
"""What the same images and the same question hang on; trials that differ in it could not be compared."""
RETRIED, BEYOND = "failed_trial", "beyond"
"""Optuna's system attribute of a trial that repeats another; ours of one that came when all slots were taken."""


class Range(Frozen):
    """Numbers from `low` to `high`, both included; `step`, or evenly on a logarithm with `log`."""

    type: Literal["float", "int"]
    low: float
    high: float
    step: float | None = Field(default=None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        numbers = [number for number in (self.low, self.high, self.step) if number is not None]
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.type == "int" and any(number != int(number) for number in numbers):
            raise ValueError(f"an int's low, high and step are whole numbers, got {keys.written(numbers)}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0 and no step")
        return self

    def ends(self) -> list[Any]:
        """Return the least and the greatest value."""
        return [number if self.type == "float" else int(number) for number in (self.low, self.high)]

    def suggest(self, trial: optuna.trial.BaseTrial, key: str) -> Any:
        """Suggest this slot's value."""
        if self.type == "float":
            return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)
        return trial.suggest_int(key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)


class Choices(Frozen):
    """One of several values, of any kind that YAML has."""

    choices: tuple[Any, ...] = Field(min_length=2)

    def ends(self) -> list[Any]:
        """Return all values."""
        return list(self.choices)

    def suggest(self, trial: optuna.trial.BaseTrial, key: str) -> Any:
        """Suggest this slot's value. Optuna keeps plain values alone, so a list or mapping is kept as its JSON."""
        return json.loads(str(trial.suggest_categorical(key, [json.dumps(choice) for choice in self.choices])))


def _kind(value: Any) -> str:
    """Which of the two somebody means, so that errors are about that one."""
    return "choices" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "range"


class Space(Frozen):
    """The search space: which keys are searched, by which objective.

    `objective`: the validation split's, of the epoch with the least loss: its loss, weighted as the config weighs classes,
    or its accuracy. `parameters`: by the config's keys, a list's entries by number (`fit.phases.0.learning_rate`).
    `prune`: end a trial whose objective after an epoch is worse than the median of the others' after as many.
    """

    objective: Literal["val_loss", "val_accuracy"] = "val_loss"
    prune: bool = True
    parameters: dict[str, Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]]

    @field_validator("parameters")
    @classmethod
    def _has_some(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("names no key to search, such as fit.phases.0.learning_rate")
        return value

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Whether a lower or a higher objective is better."""
        return "minimize" if self.objective == "val_loss" else "maximize"

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of every value."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML file. Raises ConfigError naming the key."""
        try:
            space = cls.model_validate(read_tree(path, "search space"))
        except ValidationError as err:
            raise ConfigError(f"{path} is no search space: {keys.sentences(err, cls, 'space')}") from err
        if fixed := [key for key in space.parameters if key.split(".")[0] in FIXED]:
            raise ConfigError(f"{path}: {fixed[0]} cannot be searched: trials must answer the same question on the same images")
        return space

    def examples(self) -> list[dict[str, Any]]:
        """Return every parameter's ends, or each of its choices, alone."""
        return [{key: value} for key, part in self.parameters.items() for value in part.ends()]

    def suggest(self, trial: optuna.Trial, seed: int, slot: int) -> dict[str, Any]:
        """Suggest the slot's values by key; each is drawn from (seed, slot, its place) and what is known of the slots before."""
        values = {}
        for place, (key, part) in enumerate(self.parameters.items()):
            trial.study.sampler = optuna.samplers.TPESampler(seed=seed_of(seed, slot, place), n_startup_trials=SEEN)
            values[key] = part.suggest(trial, key)
        return values


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Replace the config's values at some keys. Raises ConfigError naming a key that it does not have or a wrong value."""
    tree = config.model_dump(mode="json")
    tree["preprocessing"]["decoding"] = config.preprocessing.decoding  # the first rule is not written
    for key, value in values.items():
        *parents, last = key.split(".")
        place: Any = tree
        for part in [*parents, last]:
            holder = place
            try:
                place = holder[int(part) if isinstance(holder, list) else part]
            except (KeyError, IndexError, ValueError, TypeError) as err:
                raise ConfigError(f"{keys.unknown(key, Config)}; lists count from 0") from err
        holder[int(last) if isinstance(holder, list) else last] = copy.deepcopy(value)
    try:
        return Config.model_validate(tree)
    except ValidationError as err:
        raise ConfigError(f"{keys.written(values)} does not make a config: {keys.sentences(err, Config)}") from err


def is_extra(trial: FrozenTrial) -> bool:
    """Tell whether a trial has no slot of its own: it repeats another, or came when all slots were taken."""
    return RETRIED in trial.system_attrs or BEYOND in trial.user_attrs


def slot_of(trials: Sequence[FrozenTrial], number: int) -> int:
    """Return the slot of the trial of that number; a repeated trial has the slot of the first.

    trials: all of the study, by number.
    """
    first = int(trials[number].system_attrs.get(RETRIED, number))
    return first - sum(is_extra(trial) for trial in trials[:first])


def by_slot(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Return the trial that counts for each slot: the newest."""
    return {slot_of(trials, trial.number): trial for trial in trials if BEYOND not in trial.user_attrs}


def unfinished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that run, or were killed or stopped; not those that ended with an error of their own."""
    newest = by_slot(trials).values()
    return [
        trial
        for trial in newest
        if trial.state == TrialState.RUNNING or (trial.state == TrialState.FAIL and "error" not in trial.user_attrs)
    ]


def best_of(trials: Sequence[FrozenTrial], space: Space) -> FrozenTrial | None:
    """Return the completed trial with the best value, the first of equals; pruned ones do not count."""
    done = [trial for _, trial in sorted(by_slot(trials).items()) if trial.state == TrialState.COMPLETE]
    sign = 1 if space.direction == "minimize" else -1
    return min(done, key=lambda trial: sign * float(trial.value or 0.0), default=None)
