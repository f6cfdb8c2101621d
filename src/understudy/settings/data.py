"""Settings of the rows: where they come from, which are held out, how many tokens of a text are kept."""

from __future__ import annotations

from typing import Any

from pydantic import Field, InstanceOf, field_serializer, field_validator

from understudy.data.in_memory import InMemory, source_of
from understudy.settings.base import Frozen


class DataSettings(Frozen):
    """Where the rows come from: a file, a folder with `train.*`, `validation.*`, `test.*`, or a data set on the hub.

    From Python, `train`, `validation`, `test` and `transfer` may also be a pandas DataFrame, a `datasets.Dataset` or a list of
    dictionaries. The recipe in the run folder then holds `<DataFrame: 1,003 rows>`, which cannot be read again.
    """

    train: str | InstanceOf[InMemory] | None = None
    validation: str | InstanceOf[InMemory] | None = None
    test: str | InstanceOf[InMemory] | None = None
    transfer: str | InstanceOf[InMemory] | None = Field(default=None, description="rows without labels, for the teacher to label")
    raw: str | None = Field(
        default=None, description="plain text for stages with masked_lm: .txt, a paragraph a line, or a table with text"
    )
    columns: dict[str, str] = Field(default={}, description="our name → the file's name, as in text: review")
    label_names: tuple[str, ...] | None = Field(default=None, description="names of the labels 0, 1, … where the file has numbers")
    validation_fraction: float = Field(default=0.1, gt=0, lt=1, description="of train, when no validation file is given")
    test_fraction: float = Field(default=0.1, gt=0, lt=1, description="of train, when neither validation nor test is given")
    group_column: str | None = Field(default=None, description="rows with the same value stay in one split")
    split_seed: int = Field(
        default=0, ge=0, description="of splits made here; not the run's seed, so that all seeds and the teacher share them"
    )
    train_rows: int | None = Field(default=None, gt=0, description="keep this many labelled rows (stratified, drawn by split_seed)")
    max_length: int | None = Field(default=None, ge=4, description="tokens kept of a row; null: the model's own, at most 512")

    @field_validator("train", "validation", "test", "transfer", mode="before")
    @classmethod
    def _source(cls, value: Any) -> Any:
        return source_of(value)

    @field_serializer("train", "validation", "test", "transfer", when_used="json")
    def _named(self, value: Any) -> Any:
        return None if value is None else str(value)

    @field_validator("label_names", mode="before")
    @classmethod
    def _names_are_text(cls, names: Any) -> Any:
        if not isinstance(names, list | tuple):
            return names
        if any(isinstance(name, bool) for name in names):
            raise ValueError("YAML reads yes, no, on, off, true and false as truth values; put quotes around such names: ['yes', 'no']")
        return [str(name) if isinstance(name, int) else name for name in names]
