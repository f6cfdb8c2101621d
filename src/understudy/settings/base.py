"""What all settings have in common: they are frozen and refuse unknown keys. A part is a kind and its settings."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from understudy import parts
from understudy.errors import RecipeError
from understudy.settings.mistakes import messages_of


class Frozen(BaseModel):
    """Settings that cannot be changed, and refuse unknown keys and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Part(Frozen):
    """A kind and its settings; the settings are checked against the class that the kind names."""

    model_config = ConfigDict(frozen=True, extra="allow")
    folder: ClassVar[str]
    kind: str

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`student: bilstm` is `student: {kind: bilstm}`."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.__pydantic_extra__ = self._checked()  # defaults become visible in the resolved recipe
        return self

    def make(self) -> Any:
        """The part itself."""
        return parts.part(self.folder, self.kind)(**self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the kind, without the kind itself."""
        return dict(self.__pydantic_extra__ or {})

    def _checked(self) -> dict[str, Any]:
        """The settings with the defaults of the kind, valid for its class."""
        try:
            cls = parts.part(self.folder, self.kind)
            model = parts.settings_of(cls)
            checked = model(**self.settings)
            values = {name: getattr(checked, name) for name in model.model_fields}
            cls(**values)  # the class checks what types cannot, such as a width that its heads do not divide
        except RecipeError as error:
            raise ValueError(str(error)) from error
        except ValidationError as error:
            raise ValueError("; ".join(messages_of(model, error, known=type(self).model_fields))) from error
        return values


class StudentPart(Part):
    """A kind of `students/` and its settings."""

    folder = "students"


class ObjectivePart(Part):
    """A kind of `objectives/`, its weight in the loss, and its settings."""

    folder = "objectives"

    weight: float = Field(default=1.0, ge=0)


class AugmenterPart(Part):
    """A kind of `augmenters/` and its settings."""

    folder = "augmenters"


def dump_yaml(model: BaseModel) -> str:
    """YAML that loads to equal settings."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def plain(values: Any) -> Any:
    """A copy of settings as a dictionary, which may be changed; other values as they are."""
    return values.model_dump() if isinstance(values, BaseModel) else dict(values) if isinstance(values, dict) else values


def is_default(model: type[BaseModel], name: str, value: Any) -> bool:
    """Whether a value is the default of a setting."""
    default = model.model_fields[name].default if name in model.model_fields else ...
    return value is default or (isinstance(value, str | float | int | list | tuple | dict) and value == default)


def is_empty(value: Any) -> bool:
    """Whether a value is None, an empty text or an empty collection."""
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)
