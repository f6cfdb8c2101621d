"""Rows → more rows: several steps applied to copies of every row, with randomness from a seed and the row's identity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

from understudy.augmenters.base import AugmentationContext, Augmenter, Words
from understudy.data.tables import identity, missing_label

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.models.text_model import TextModel


def augmented(
    rows: Dataset,
    steps: Sequence[Augmenter],
    *,
    copies: int,
    seed: int,
    teacher: TextModel | None = None,
    words: Words = "characters",
    leave_out: Collection[str] = (),
    keep_labels: bool = False,
) -> Dataset:
    """Up to `copies` changed forms of every row, without labels (the teacher labels them) or with the row's label.

    The random numbers depend only on the seed, the row's identity and the number of the copy. The words that a step draws from may
    depend on all the rows, as with `part_of_speech`. A copy that equals a row or an earlier copy, or is in `leave_out`, is dropped. Of
    a pair, the first, the second or both texts change, each with probability 1/3.

    Args:
        rows: with `text` and perhaps `text_pair`.
        steps: applied one after the other.
        copies: of each row.
        seed: of the run.
        teacher: the model that some steps use.
        words: units of Chinese text.
        leave_out: identities of validation and test rows.
        keep_labels: each copy has the label of its row; else none has one.

    Raises:
        RecipeError: a step, or the splitting of Chinese into words, lacks something that it needs.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.3.
    """
    from datasets import Dataset
    from tqdm.auto import tqdm

    pair = "text_pair" in rows.column_names
    columns = [rows[name][:] for name in (("text", "text_pair") if pair else ("text",))]
    context = AugmentationContext([text for column in columns for text in column], teacher, words)
    for step in steps:
        step.prepare(context)
    seen = {*rows["identity"], *leave_out}
    names = ("identity", "label", *(("text", "text_pair") if pair else ("text",)))
    values: dict[str, list] = {name: [] for name in names}
    labels = rows["label"][:] if keep_labels else [missing_label(rows.features["label"])] * len(rows)
    source = zip(rows["identity"][:], labels, *columns, strict=True)
    for row, label, *texts in tqdm(source, "making rows", len(rows), unit="row", leave=False, dynamic_ncols=True, delay=2):
        split = [context.pieces(text) for text in texts]
        for copy in range(copies):
            draw = Random(f"{seed} {row} {copy}")
            sides = draw.choice([(0,), (1,), (0, 1)]) if pair else (0,)
            changed = [
                _changed(pieces, steps, draw) if side in sides else text
                for side, (text, pieces) in enumerate(zip(texts, split, strict=True))
            ]
            new = identity(*changed)
            if new in seen or not all(text.strip() for text in changed):
                continue
            seen.add(new)
            for name, value in zip(names, [new, label, *changed], strict=True):
                values[name].append(value)
    return Dataset.from_dict(values, features=rows.features)


def _changed(pieces: list[str], steps: Sequence[Augmenter], draw: Random) -> str:
    """The text of these pieces after all steps."""
    for step in steps:
        pieces = step.change(pieces, draw)
    return "".join(pieces).strip()
