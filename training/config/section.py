"""What every part of the config is."""

from typing import Annotated

from pydantic import ConfigDict, Field

from handlers.spec import Frozen

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(Frozen):
    """A part of the config. The literal string below a key is the key's description, here and in its JSON schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)
