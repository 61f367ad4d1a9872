"""The common part of a configuration's sections: how keys are checked, and the types of values."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0, le=10**9)]
"""A number of steps, examples or units, at least 1."""

Rate = Annotated[float, Field(gt=0, le=10)]
"""A learning rate."""


class Section(BaseModel):
    """A part of the configuration, immutable; unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a switch for a number: True would pass for 1."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError(f"{value} is a switch: give a value")
        return value
