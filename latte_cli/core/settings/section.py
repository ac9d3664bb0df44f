"""What every section of the experiment file is: typed, frozen, strict about keys and values."""

import errno
import os
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

NOT_UTF_8 = "is not valid UTF-8"
NOT_A_NAME = "is no name of a file"


class Section(BaseModel):
    """A part of the experiment file: unknown keys refused, values never changed after loading."""

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
        """Refuse true where a number is wanted: pydantic would read it as 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("found true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _text_is_unicode(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what an argument in another encoding becomes, which no file of ours can hold; paths may."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        texts = value if isinstance(value, list | tuple) else [value]
        if Path not in (annotation, *get_args(annotation)) and any(
            isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text) for text in texts
        ):
            raise ValueError(NOT_UTF_8)
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _path_can_be(cls, value: Any) -> Any:
        """Refuse a path that no file can have."""
        if isinstance(value, Path):
            try:
                os.stat(value)
            except ValueError as error:  # holds a null character
                raise ValueError(NOT_A_NAME) from error
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    raise ValueError(NOT_A_NAME) from error
        return value
