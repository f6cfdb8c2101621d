"""Reduced vocabularies cut what they were made for as before, and the first vectors are the teacher's."""

import inspect
import textwrap

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from tiny import LABELS, TEXTS, tiny_teacher
from understudy.errors import DataError, ModelError
from understudy.students import Blueprint
from understudy.students.narrow import Narrow
from understudy.students.vocabulary import keep_rows, principal_components, reduce_vocabulary, word_tokenizer

CORPUS = [line.strip() for line in inspect.getsource(textwrap).splitlines() if line.strip()]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=600, special_tokens=BERT_SPECIAL, show_progress=False))
    return BertTokenizer(vocab=tokenizer.get_vocab())


def byte_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=ROBERTA_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    import json

    model = json.loads(tokenizer.to_str())["model"]
    return RobertaTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def character_bpe():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=ROBERTA_SPECIAL, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>")


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=500, special_tokens=ROBERTA_SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    import json

    return XLMRobertaTokenizer(vocab=[tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]])


def word_level():
    return word_tokenizer(CORPUS, min_count=1)


@pytest.mark.parametrize("texts", [CORPUS[:40], CORPUS[::7], ["Wrap 漢 é text!"]], ids=["head", "every seventh", "strange"])
@pytest.mark.parametrize("make", [wordpiece, byte_bpe, character_bpe, unigram, word_level])
def test_texts_are_cut_as_before(make, texts, tmp_path):
    full = make()
    reduced, kept_ids = reduce_vocabulary(full, texts)
    assert len(reduced) == len(kept_ids) < len(full)
    assert type(reduced) is type(full)
    assert kept_ids == sorted(set(kept_ids))
    for text, second in zip(texts, texts[::-1], strict=True):
        assert reduced.tokenize(text) == full.tokenize(text)
        for both in ((text,), (text, second)):
            got, expected = reduced(*both), full(*both)
            assert [kept_ids[index] for index in got["input_ids"]] == expected["input_ids"]
            assert got.get("token_type_ids") == expected.get("token_type_ids")
    assert reduced.special_tokens_map == full.special_tokens_map
    assert [kept_ids[index] for index in reduced.all_special_ids] == full.all_special_ids

    reduced.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == reduced.get_vocab()
    unseen = ["unrelated sentences, with Other words", *texts[:5]]
    assert again(unseen)["input_ids"] == reduced(unseen)["input_ids"]


@pytest.mark.parametrize("make", [wordpiece, byte_bpe, character_bpe, unigram])
def test_unseen_words_still_have_a_spelling(make):
    full = make()
    reduced, _ = reduce_vocabulary(full, CORPUS[:5])
    assert reduced.unk_token not in reduced.tokenize("wrapping hyphens")


def test_the_teachers_tokenizer_stays_as_it_was():
    full = wordpiece()
    before = full.backend_tokenizer.to_str()
    reduce_vocabulary(full, CORPUS[:5])
    assert full.backend_tokenizer.to_str() == before


def test_rows_kept_give_the_same_outputs_where_positions_start_after_padding():
    full = byte_bpe()
    config = RobertaConfig(
        vocab_size=len(full),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=80,
        pad_token_id=1,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    model = RobertaForSequenceClassification(config).eval()
    expected = model(**full(CORPUS[:8], padding=True, return_tensors="pt")).logits
    reduced, kept_ids = reduce_vocabulary(full, CORPUS[:8])
    keep_rows(model, kept_ids)
    assert model.config.vocab_size == len(reduced)
    torch.testing.assert_close(model(**reduced(CORPUS[:8], padding=True, return_tensors="pt")).logits, expected)
    with pytest.raises(ModelError, match="counted from the padding token"):
        keep_rows(model, [1, 5])


def test_principal_components_keep_distances_when_none_is_dropped():
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    kept = principal_components(table, 8, scale=1.0)
    assert kept.std().item() == pytest.approx(1.0, rel=1e-4)
    ratio = torch.cdist(kept, kept) / torch.cdist(table, table).clamp(min=1e-9)
    off_diagonal = ratio[~torch.eye(50, dtype=torch.bool)]
    torch.testing.assert_close(off_diagonal, off_diagonal[:1].expand_as(off_diagonal), atol=1e-3, rtol=1e-3)
    variances = principal_components(table, 3, scale=1.0).var(dim=0)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)
    assert principal_components(table, 12, scale=1.0).shape == (50, 12)


def test_narrow_can_start_from_the_teachers_vectors():
    teacher = tiny_teacher()
    student = Narrow(width=8, heads=2, initialize="teacher", vocabulary="teacher").build(Blueprint(TEXTS, LABELS, teacher=teacher))
    table = teacher.model.get_input_embeddings().weight
    expected = principal_components(table, 8, scale=table.std().item())
    torch.testing.assert_close(student.model.get_input_embeddings().weight[1:], expected[1:])


def test_no_words_at_all():
    with pytest.raises(DataError, match="no word occurs 3 times"):
        word_tokenizer(["one two"], min_count=3)
