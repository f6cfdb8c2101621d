"""Rows become batches: nothing is lost, padding counts for nothing, and the order hangs on seed and epoch alone."""

import gc

import numpy as np
import pytest
import torch
from datasets import Dataset

from tiny import SECOND_TEXTS, TEXTS, tiny_teacher, tiny_tokenizer
from understudy.data import examples
from understudy.data.examples import Collator, Examples, LengthBuckets, by_length, examples_of, fields_of
from understudy.data.tables import identity
from understudy.errors import ModelError
from understudy.models.text_model import TextModel
from understudy.models.view import View

LENGTHS = np.random.default_rng(0).integers(3, 120, size=1000)


def order(lengths=LENGTHS, batch_size=8, *, epoch=0, **settings) -> list[int]:
    sampler = LengthBuckets(lengths, batch_size, **settings)
    sampler.set_epoch(epoch)
    return list(sampler)


def padded_share(rows: list[int], batch_size=8) -> float:
    """Share of a batch that is padding."""
    batches = [LENGTHS[rows[start : start + batch_size]] for start in range(0, len(rows), batch_size)]
    return 1 - LENGTHS[rows].sum() / sum(len(batch) * batch.max() for batch in batches)


@pytest.mark.parametrize("bucketed", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 8, 64, 5000])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 999, 1000])
def test_every_row_once(rows, batch_size, bucketed):
    assert sorted(order(LENGTHS[:rows], batch_size, bucketed=bucketed)) == list(range(rows))


@pytest.mark.parametrize("weighted", [True, False])
def test_the_order_hangs_on_seed_and_epoch_alone(weighted):
    settings = {"weights": LENGTHS.astype(float)} if weighted else {}
    np.random.seed(1)
    torch.manual_seed(1)
    first = order(epoch=3, seed=5, **settings)
    np.random.seed(2)
    torch.manual_seed(2)
    assert order(epoch=3, seed=5, **settings) == first
    sampler = LengthBuckets(LENGTHS, 8, seed=5, **settings)
    list(sampler)  # epochs that were walked before change nothing
    sampler.set_epoch(3)
    assert list(sampler) == first
    assert order(epoch=4, seed=5, **settings) != first != order(epoch=3, seed=6, **settings)


def test_a_batch_is_of_like_length_and_batches_are_mixed():
    rows = order()
    assert padded_share(rows) < 0.05
    assert padded_share(order(bucketed=False)) > 0.3
    means = [LENGTHS[rows[start : start + 8]].mean() for start in range(0, 1000, 8)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3, "batches come in order of length"
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_only_the_last_batch_is_short():
    lengths = np.arange(1, 28)  # 3 batches of 8, and 3 rows
    rows = order(lengths)
    for start in range(0, 24, 8):
        batch = sorted(lengths[rows[start : start + 8]])
        assert len(batch) == 8 and batch[-1] - batch[0] == 7, "a batch straddles two runs of like length"
    assert sorted(rows[24:]) == [0, 1, 2]


def test_weights_say_how_often():
    weights = np.where(np.arange(1000) < 100, 9.0, 1.0)
    weights[999] = 0
    rows = [row for epoch in range(20) for row in order(weights=weights, epoch=epoch)]
    assert len(rows) == 20 * 1000 and 999 not in rows
    assert np.mean(np.asarray(rows) < 100) == pytest.approx(900 / (900 + 899), abs=0.02)


# --- collation


def test_each_view_is_padded_with_its_own_padding():
    rows = [
        {"input_ids": np.array([5, 6, 7]), "teacher_input_ids": np.array([8]), "token_type_ids": np.array([0, 1, 1]), "labels": 1},
        {"input_ids": np.array([5]), "teacher_input_ids": np.array([8, 9]), "token_type_ids": np.array([1]), "labels": -100},
    ]
    batch = Collator(3, 4)(rows)
    assert {name: value.tolist() for name, value in batch["student"].items()} == {
        "input_ids": [[5, 6, 7], [5, 3, 3]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "token_type_ids": [[0, 1, 1], [1, 0, 0]],
    }
    assert {name: value.tolist() for name, value in batch["teacher"].items()} == {
        "input_ids": [[8, 4], [8, 9]],
        "attention_mask": [[1, 0], [1, 1]],
    }
    assert batch["labels"].tolist() == [1, -100] and batch["counted"].tolist() == [True, True]
    assert Collator(3)(rows)["teacher"]["input_ids"].tolist() == [[8, 3], [8, 9]]


def test_where_tokens_have_labels_every_token_counts():
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, -100]}, {"input_ids": [5], "labels": [5]}]
    batch = Collator(3)(rows)
    assert batch["labels"].tolist() == [[-100, 6, -100], [5, -100, -100]]
    assert batch["counted"].tolist() == [[True, True, True], [True, False, False]]


def test_a_collator_of_ones_own_may_give_flat_batches():
    flat = {"input_ids": torch.tensor([[5]]), "labels": torch.tensor([1]), "teacher_logits": torch.tensor([[0.5, 1.5]])}
    batch = Collator(3, collate=lambda rows: flat)([{}])
    assert batch["student"]["input_ids"].tolist() == [[5]] and batch["teacher"]["logits"].tolist() == [[0.5, 1.5]]
    assert batch["labels"].tolist() == [1] and batch["counted"].tolist() == [True]


def test_columns_of_plain_data_sets():
    rows = Dataset.from_dict(
        {
            "text": ["a", "b"],
            "input_ids": [[1, 2], [3]],
            "attention_mask": [[1, 1], [1]],
            "label": [0, 1],
            "teacher_logits": [[0.5, 1.5], [2.5, 3.5]],
        }
    )
    batch = Collator(0)([rows[0], rows[1]])
    assert batch.keys() == {"student", "teacher", "labels", "counted"}
    assert batch["student"].keys() == {"input_ids", "attention_mask"} and batch["teacher"].keys() == {"logits"}
    assert batch["labels"].tolist() == [0, 1] and batch["labels"].dtype == torch.int64
    assert batch["teacher"]["logits"].dtype == torch.float32 and batch["teacher"]["logits"].shape == (2, 2)
    assert batch["student"]["attention_mask"].tolist() == [[1, 1], [1, 0]]


# --- tokens


def rows_of(texts=TEXTS, second_texts=None, labels=None) -> Dataset:
    second = {} if second_texts is None else {"text_pair": list(second_texts)}
    return Dataset.from_dict({"text": list(texts), **second, "label": labels or [0, 1] * (len(texts) // 2)})


@pytest.mark.parametrize("second_texts", [None, SECOND_TEXTS], ids=["single", "pair"])
def test_tokens_are_the_tokenizers(second_texts, monkeypatch):
    monkeypatch.setattr(examples, "_CHUNK", 4)
    teacher = tiny_teacher()
    short = TextModel(teacher.model, teacher.tokenizer, 12)
    fields = fields_of(short, rows_of(second_texts=second_texts))
    expected = teacher.tokenizer(list(TEXTS), second_texts and list(second_texts), truncation=True, max_length=12)
    assert [row.tolist() for row in fields["input_ids"]] == expected["input_ids"]
    assert fields["input_ids"].lengths.tolist() == [len(row) for row in expected["input_ids"]]
    assert max(fields["input_ids"].lengths) == 12
    if second_texts:
        assert [row.tolist() for row in fields["token_type_ids"]] == expected["token_type_ids"]
    else:
        assert "token_type_ids" not in fields


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Every text that is tokenized."""
    texts_read, whole = [], View.encode

    def encode(self, texts, pairs=None, **more):
        texts_read.extend(zip(texts, pairs, strict=True) if pairs else texts)
        return whole(self, texts, pairs, **more)

    monkeypatch.setattr(View, "encode", encode)
    return texts_read


@pytest.mark.parametrize("second_texts", [None, SECOND_TEXTS], ids=["single", "pair"])
def test_law_a_row_is_tokenized_once_for_each_view(second_texts, read):
    rows = rows_of(second_texts=second_texts)
    keys = list(map(identity, TEXTS, second_texts or [None] * 6))
    known = rows.add_column("identity", keys)
    first, alike, shorter = (tiny_teacher(seed=0), tiny_teacher(seed=1), TextModel(tiny_teacher().model, tiny_tokenizer(), 5))
    plain = examples_of(first, rows)
    assert len(read) == 6
    for order in ([3, 1], [0, 1, 2, 3, 4, 5], [5, 5, 0]):
        for model in (first, alike):
            batch, wanted = examples_of(model, known.select(order)).batch(range(len(order))), plain.batch(order)
            for name, value in wanted["student"].items():
                assert torch.equal(batch["student"][name], value)
    assert len(read) == 12, "models that read alike share what was read"
    assert max(fields_of(shorter, known)["input_ids"].lengths) == 5 and len(read) == 18
    fields_of(first, known, remember=False)
    assert len(read) == 24


def test_what_was_read_goes_with_the_models_that_read_it():
    model = TextModel(tiny_teacher().model, tiny_tokenizer(), 7)
    fields_of(model, rows_of().add_column("identity", list(map(identity, TEXTS))))
    before = len(examples._READ)
    del model
    gc.collect()
    assert len(examples._READ) == before - 1


def test_a_row_carries_its_label_and_its_teachers_logits():
    logits = np.arange(12, dtype=np.float32).reshape(6, 2)
    rows = examples_of(tiny_teacher(), rows_of(), logits)
    assert isinstance(rows, Examples) and len(rows) == 6
    assert rows[3]["labels"].tolist() == [1] and rows[3]["teacher"]["logits"].tolist() == [[6, 7]]
    assert "teacher" not in examples_of(tiny_teacher(), rows_of())[0]


def test_balanced_sampling_draws_classes_alike_and_unlabelled_rows_as_the_largest():
    rows = examples_of(tiny_teacher(), rows_of(labels=[0, 0, 0, 1, -100, -100]), balanced=True)
    np.testing.assert_allclose(rows.sampling_weights, [1 / 3, 1 / 3, 1 / 3, 1, 1 / 3, 1 / 3])
    assert examples_of(tiny_teacher(), rows_of(), balanced=False).sampling_weights is None


def test_by_length_keeps_labels_with_their_rows():
    rows = by_length(tiny_teacher(), rows_of(labels=list(range(6))))
    assert rows.lengths.tolist() == sorted(rows.lengths, reverse=True)
    whole = examples_of(tiny_teacher(), rows_of(labels=list(range(6))))
    for row in (rows[place] for place in range(6)):
        assert torch.equal(row["student"]["input_ids"], whole[int(row["labels"])]["student"]["input_ids"])


def test_a_tokenizer_that_reads_most_texts_as_nothing_is_refused():
    from tokenizers.processors import TemplateProcessing

    model = tiny_teacher(layers=1)
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    rows = Dataset.from_dict({"text": ["\u200b"] * 9 + ["a film"] * 7})
    with pytest.raises(ModelError, match="its tokenizer finds no token in 9 of 16 texts: is it the model's own"):
        fields_of(model, rows)
    assert fields_of(model, rows.select(range(2, 16)))["input_ids"].lengths.tolist() == [1] * 7 + [2] * 7
