"""Rows → more rows: several steps applied to copies of every row, each drawn from a seed and the row's identity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from understudy.augmenters.base import AugmentationContext, Augmenter, Words
from understudy.data.tables import UNLABELLED, identity

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.models.text_model import TextModel


def augmented(
    rows: Dataset, steps: Sequence[Augmenter], *, copies: int, seed: int, teacher: TextModel | None = None,
    words: Words = "characters", leave_out: Collection[str] = (), keep_labels: bool = False,
) -> Dataset:  # fmt: skip
    """Up to `copies` changed forms of every row, for the teacher to label, or with the row's own label.

    Chance depends on the seed, the row's identity and the number of the copy, and on nothing else. What a step has to draw from may
    hang on all the rows, as with `part_of_speech`. Copies that are like a row that is there, like an earlier copy, or in
    `leave_out`, are left out. Of a pair, the first, the second or both texts change, each with probability 1/3.

    Args:
        rows: with `text` and perhaps `text_pair`.
        steps: applied one after the other.
        copies: of each row.
        seed: of the run.
        teacher: what some steps draw from.
        words: units of Chinese text.
        leave_out: identities of rows that measure.
        keep_labels: each copy has the label of its row; else none has one.

    Raises:
        RecipeError: a step, or the cutting of Chinese, lacks something that it needs.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.3.
    """
    from datasets import Dataset
    from tqdm.auto import tqdm

    pair = "text_pair" in rows.column_names
    columns = [rows[name][:] for name in (("text", "text_pair") if pair else ("text",))]
    material = AugmentationContext([text for column in columns for text in column], teacher, words)
    for step in steps:
        step.prepare(material)
    seen = {*rows["identity"], *leave_out}
    names = ("identity", "label", *(("text", "text_pair") if pair else ("text",)))
    found: dict[str, list] = {name: [] for name in names}
    number = rows.features["label"].dtype.startswith("float")
    labels = rows["label"][:] if keep_labels else [np.nan if number else UNLABELLED] * len(rows)
    each = zip(rows["identity"][:], labels, *columns, strict=True)
    for known, label, *texts in tqdm(
        each, "making rows", len(rows), unit="row", leave=False, dynamic_ncols=True, delay=2
    ):
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
            for name, value in zip(names, [new, label, *changed], strict=True):
                found[name].append(value)
    return Dataset.from_dict(found, features=rows.features)


def _changed(pieces: list[str], steps: Sequence[Augmenter], draw: Random) -> str:
    for step in steps:
        pieces = step.change(pieces, draw)
    return "".join(pieces).strip()
