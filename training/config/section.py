"""What every part of the config is."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from archives.names import composed
from handlers.spec import Frozen, Label

Fraction = Annotated[float, Field(gt=0, lt=1)]
DataLabel = Annotated[Label, AfterValidator(composed)]
"""A label of the data, in NFC as `training.data.tree` reads labels."""
LARGEST_BATCH = 1_000_000
"""Images in a batch at most: more are a slip of the hand, which would train to the end as one batch of everything."""


class Section(Frozen):
    """A part of the config. The literal string below a key is the key's description, here and in its JSON schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)
