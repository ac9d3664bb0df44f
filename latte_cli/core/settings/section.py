"""Base class of the experiment file's sections: typed, frozen, strict about keys and values."""

import errno
import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from latte_cli.core.errors import is_unicode
from latte_cli.core.storage.hub import name_of

Switch = Literal["auto"] | bool
"""A choice that may be left to the program."""
Dtype = Literal["float32", "float16", "bfloat16"]
"""A type of floating-point numbers."""
NOT_UTF_8 = "is not valid UTF-8"
NOT_A_NAME = "cannot be a path"  # not what pydantic says of another type


class Section(BaseModel):
    """A section of the experiment file: rejects unknown keys and is immutable after loading."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject true where a number is expected: pydantic would read it as 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("found true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _text_is_unicode(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject text that is not valid Unicode (an argument in another encoding); paths may contain it."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        texts = value if isinstance(value, list | tuple) else [value]
        if Path not in (annotation, *get_args(annotation)) and any(
            isinstance(text, str) and not is_unicode(text) for text in texts
        ):
            raise ValueError(NOT_UTF_8)
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _path_can_be(cls, value: Any) -> Any:
        """Reject a path that is too long or contains a null character."""
        if isinstance(value, Path):
            try:
                os.stat(value)
            except ValueError as error:  # contains a null character
                raise ValueError(NOT_A_NAME) from error
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    raise ValueError(NOT_A_NAME) from error
        return value

    @field_serializer("*", mode="wrap", when_used="json")
    def _published_by_name(self, value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        """Write the name of published weights, with their commit, and not where this machine keeps them."""
        plain = handler(value)
        return name_of(plain) if isinstance(value, str | Path) else plain
