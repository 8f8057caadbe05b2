"""What is asked about pictures, as fields of a form or of the address."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, ValidationError
from starlette.datastructures import QueryParams

from console.envelope import sentence_of
from console.errors import ParameterInvalid
from console.servers.models import Question


class Asked(Question):
    """A question, and the model that it is put to."""

    model: Annotated[str | None, Field(max_length=200)] = Field(
        default=None, description="The model's name; may be left out where the console has one model.", examples=["roofs"]
    )

    def with_fields(self, fields: Mapping[str, str]) -> Self:
        """The same with a form's fields, which go before the address's; an empty one is left out. Raises ParameterInvalid."""
        if not fields:
            return self
        try:
            return type(self).model_validate(self.model_dump() | {name: value for name, value in fields.items() if value})
        except ValidationError as err:
            raise ParameterInvalid(sentence_of(err.errors())) from err

    @classmethod
    def of_address(cls, query: QueryParams) -> Self:
        """What an address asks. Raises ParameterInvalid."""
        try:
            return cls.model_validate(dict(query))
        except ValidationError as err:
            raise ParameterInvalid(sentence_of([{**one, "loc": ("query", *one["loc"])} for one in err.errors()])) from err

    @property
    def question(self) -> Question:
        """What is asked, whatever the model."""
        return Question(explain=self.explain, threshold=self.threshold, group=self.group)
