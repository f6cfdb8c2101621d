"""Rows → more rows: several steps applied to copies of every row, each drawn from a seed and the row's identity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from understudy.augmenters.base import Augmenter, Material, Words
from understudy.data.tables import UNLABELLED, identity

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.text_model import TextModel


def augmented(
    rows: Dataset, steps: Sequence[Augmenter], *, copies: int, seed: int, teacher: TextModel | None = None,
    words: Words = "characters", leave_out: Collection[str] = (),
) -> Dataset:  # fmt: skip
    """Up to `copies` changed forms of every row, without labels, for the teacher to label.

    Chance hangs on the seed, the row's identity and the number of the copy, and on nothing else. What a step has to draw from may
    hang on all the rows, as with `part_of_speech`. Copies that are like a row that is there, like an earlier copy, or in
    `leave_out`, are left out. Of a pair, the first, the second or both texts change, each with probability 1/3.

    Args:
        rows: with `text` and perhaps `text_pair`.
        steps: applied one after the other.
        copies: of each row.
        seed: of the run.
        teacher: what some steps draw from.
        words: how Chinese is cut.
        leave_out: identities of rows that measure.

    Raises:
        RecipeError: a step, or the cutting of Chinese, lacks something that it needs.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.3.
    """
    from tqdm.auto import tqdm

    pair = "text_pair" in rows.column_names
    columns = [rows[name][:] for name in (("text", "text_pair") if pair else ("text",))]
    material = Material([text for column in columns for text in column], teacher, words)
    for step in steps:
        step.prepare(material)
    seen = {*rows["identity"], *leave_out}
    found: dict[str, list] = {"identity": [], **{name: [] for name in (("text", "text_pair") if pair else ("text",))}}
    each = zip(rows["identity"][:], *columns, strict=True)
    for known, *texts in tqdm(each, "making rows", len(rows), unit="row", leave=False, dynamic_ncols=True, delay=2):
        cut = [material.pieces(text) for text in texts]
        for copy in range(copies):
            draw = Random(f"{seed} {known} {copy}")
            sides = draw.choice([(0,), (1,), (0, 1)]) if pair else (0,)
            changed = [
                _changed(pieces, steps, draw) if side in sides else text
                for side, (text, pieces) in enumerate(zip(texts, cut, strict=True))
            ]
            new = identity(*changed)
            if new in seen or not all(text.strip() for text in changed):
                continue
            seen.add(new)
            for name, value in zip(found, [new, *changed], strict=True):
                found[name].append(value)
    return _like(rows, found)


def _changed(pieces: list[str], steps: Sequence[Augmenter], draw: Random) -> str:
    for step in steps:
        pieces = step.change(pieces, draw)
    return "".join(pieces).strip()


def _like(rows: Dataset, columns: dict[str, list]) -> Dataset:
    """A data set with the features of `rows` and no labels."""
    from datasets import Dataset

    numbers = rows.features["label"].dtype.startswith("float")
    labels = np.full(len(columns["identity"]), np.nan) if numbers else np.full(len(columns["identity"]), UNLABELLED)
    return Dataset.from_dict(columns | {"label": labels}, features=rows.features)
