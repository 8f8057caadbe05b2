"""What every part of the config is."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from archives.names import composed
from handlers.spec import Frozen, Label

Fraction = Annotated[float, Field(gt=0, lt=1)]
DataLabel = Annotated[Label, AfterValidator(composed)]
"""A label of the data, in NFC as `training.data.tree` reads labels."""


class Section(Frozen):
    """A part of the config. The literal string below a key is the key's description, here and in its JSON schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)
