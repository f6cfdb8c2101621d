"""The own networks against independent oracles, and the settings of the students that start small."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from tiny import LABELS, SECOND_TEXTS, SIZES, TEXTS, encode, logits, tiny_teacher, tiny_tokenizer
from understudy.errors import DataError, ModelError
from understudy.models.text_model import TextModel
from understudy.students import Blueprint
from understudy.students.bilstm import BiLSTM
from understudy.students.narrow import Narrow
from understudy.students.pretrained import Pretrained
from understudy.students.static_embeddings import StaticEmbeddings


def words(**settings):
    return Blueprint(TEXTS + SECOND_TEXTS, LABELS, **settings)


def test_bilstm_equals_torchs_own_with_packed_sequences(build):
    model = build("bilstm").model
    oracle = nn.LSTM(300, 150, batch_first=True, bidirectional=True)
    oracle.load_state_dict(
        {name: value for name, value in model.forward_lstm.state_dict().items()}
        | {f"{name}_reverse": value for name, value in model.backward_lstm.state_dict().items()}
    )
    ids, lengths = torch.randint(5, 20, (4, 9)), torch.tensor([9, 1, 4, 7])
    packed = nn.utils.rnn.pack_padded_sequence(model.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
    forwards, backwards = oracle(packed)[1][0]
    torch.testing.assert_close(model.encode(ids, lengths), torch.cat([forwards, backwards], dim=-1))


@pytest.mark.parametrize("kind", ["bilstm", "static_embeddings"])
def test_a_pair_is_two_texts_encoded_alike(kind, build):
    student = build(kind, pair=True)
    seen = []
    student.model.dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits(student, second_texts=SECOND_TEXTS)
    first, second = (
        student.model.encode(batch["input_ids"], batch["attention_mask"].sum(1))
        for batch in (encode(student, TEXTS), encode(student, SECOND_TEXTS))
    )
    expected = torch.cat([first, second, first * second, (first - second).abs()], dim=-1)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-5)


def test_static_embeddings_by_hand(build):
    model = build("static_embeddings").model
    table = model.embedding.weight
    got = model.encode(torch.tensor([[7, 9, 9, 0], [5, 0, 0, 0]]), torch.tensor([3, 0]))
    torch.testing.assert_close(got, torch.stack([(table[7] + 2 * table[9]) / 3, torch.zeros(256)]))


def test_order_counts_for_the_bilstm_only(build):
    turned = [" ".join(reversed(text.split())) for text in TEXTS]
    assert not torch.allclose(logits(build("bilstm")), logits(build("bilstm"), turned))
    torch.testing.assert_close(logits(build("static_embeddings")), logits(build("static_embeddings"), turned))


def test_no_special_tokens_reach_the_own_networks(build):
    student = build("bilstm", pair=True)
    batch = encode(student, ["a dull film"], ["no plot"])
    assert student.tokenizer.convert_ids_to_tokens(batch["input_ids"][0]) == ["a", "dull", "film", "no", "plot"]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1]]


@pytest.mark.parametrize("kind", ["bilstm", "static_embeddings"])
def test_empty_texts_are_no_accident(kind, build):
    single, pair = build(kind), build(kind, pair=True)
    assert logits(single, ["", "fun"]).isfinite().all()
    assert logits(pair, ["", "fun"], ["fun", ""]).isfinite().all()


@pytest.mark.parametrize("kind", ["bilstm", "static_embeddings"])
def test_a_pair_without_token_types_is_refused(kind, build):
    student = build(kind, pair=True)
    with pytest.raises(ModelError, match="token_type_ids"):
        student.model(input_ids=torch.tensor([[7, 8]]))


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("kind", ["bilstm", "static_embeddings"])
def test_one_traced_graph_serves_every_shape(kind, pair, build):
    student = build(kind, pair=pair)

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = student.model

        def forward(self, *inputs):
            return self.model(*inputs).logits

    def inputs(rows: slice, **settings):
        batch = encode(student, TEXTS[rows], SECOND_TEXTS[rows] if pair else None, **settings)
        names = ("input_ids", "attention_mask", "token_type_ids")
        return tuple(batch[name] for name in names if name in batch)

    graph = torch.jit.trace(Logits().eval(), inputs(slice(2)))
    for other in (inputs(slice(6)), inputs(slice(1, 2)), inputs(slice(3), padding="max_length", max_length=32)):
        torch.testing.assert_close(graph(*other), student.model(*other).logits)


def test_parameter_counts_as_promised(build):
    bilstm = build("bilstm", embedding=10, hidden=6, feature=5, vocabulary="teacher")
    rows = len(bilstm.tokenizer)
    lstm = 4 * 6 * (10 + 6 + 2)
    assert bilstm.parameters == rows * 10 + 2 * lstm + (12 + 1) * 5 + (5 + 1) * 2
    assert build("bilstm", embedding=10, hidden=6, feature=5, vocabulary="teacher", pair=True).parameters == (
        rows * 10 + 2 * lstm + (4 * 12 + 1) * 5 + (5 + 1) * 2
    )
    static = build("static_embeddings", width=10, hidden=5, vocabulary="teacher")
    assert static.parameters == rows * 10 + (10 + 1) * 5 + (5 + 1) * 2
    narrow = build("narrow", layers=2, width=8, heads=2, vocabulary="teacher")
    layer = 4 * (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 4 * 8
    assert narrow.parameters == (rows + 64 + 2) * 8 + 2 * 8 + 2 * layer + (8 * 8 + 8) + (8 + 1) * 2


@pytest.mark.parametrize("kind", ["bilstm", "static_embeddings", "narrow"])
def test_another_seed_draws_other_weights(kind, build):
    first, second = build(kind, seed=1).model.classifier, build(kind, seed=2).model.classifier
    assert not torch.equal(first.weight, second.weight)


def test_words_without_a_teacher():
    student = BiLSTM(min_count=1).build(words())
    assert student.tokenizer.tokenize("A Gripping film, isn't it") == ["a", "gripping", "film", ",", "is", "[UNK]", "[UNK]"]
    assert "gripping" not in BiLSTM().build(words()).tokenizer.get_vocab()
    assert "film" in BiLSTM().build(words()).tokenizer.get_vocab()


def test_chinese_goes_by_characters():
    student = BiLSTM(min_count=1).build(Blueprint(["股市大跌", "我爱 AI"], LABELS))
    assert student.tokenizer.tokenize("大股 ai") == ["大", "股", "a", "i"]


def test_words_beside_a_teacher(build):
    student = build("bilstm", vocabulary="words", min_count=1)
    assert student.tokenizer.tokenize("gripping") == ["gripping"]
    assert build("narrow", vocabulary="words").model.config.vocab_size == len(build("narrow", vocabulary="words").tokenizer)


@pytest.mark.parametrize("kind", [BiLSTM, StaticEmbeddings])
def test_vectors_from_files(kind, tmp_path):
    (tmp_path / "glove.txt").write_text("film 1 2 3\nFun 4 5 6\nzebra 7 8 9\n. . 1 2 3\n", "utf-8")
    (tmp_path / "word2vec.txt").write_text("2 3\nfilm 1 2 3\nfun 4 5 6\n", "utf-8")
    np.savez(tmp_path / "v.npz", words=np.array(["film", "fun"]), vectors=np.array([[1, 2, 3], [4, 5, 6]], np.float16))
    for name in ("glove.txt", "word2vec.txt", "v.npz"):
        student = kind(vectors=str(tmp_path / name)).build(words(teacher=tiny_teacher()))
        table = student.model.embedding.weight
        assert table.shape[1] == 3
        assert table[student.tokenizer.convert_tokens_to_ids("film")].tolist() == [1, 2, 3]
        assert table[student.tokenizer.convert_tokens_to_ids("fun")].tolist() == [4, 5, 6]
        assert table[student.tokenizer.pad_token_id].tolist() == [0, 0, 0]
        assert table[student.tokenizer.convert_tokens_to_ids("plot")].abs().sum() > 0


def test_the_sentence_is_the_mean_of_its_word_vectors(tmp_path):
    (tmp_path / "v.txt").write_text("film 1 2 3\nfun 4 5 6\n", "utf-8")
    student = StaticEmbeddings(vectors=str(tmp_path / "v.txt"), min_count=1, max_words=50).build(words())
    batch = encode(student, ["Film fun film"])
    got = student.model.encode(batch["input_ids"], batch["attention_mask"].sum(1))
    torch.testing.assert_close(got, torch.tensor([[2.0, 3.0, 4.0]]))


def test_rare_words_of_the_mean_are_left_out():
    vocabulary = {count: len(StaticEmbeddings(vocabulary="words", min_count=count).build(words()).tokenizer) for count in (1, 2, 3)}
    assert vocabulary[1] > vocabulary[2] > vocabulary[3] > 5
    assert len(StaticEmbeddings(vocabulary="words", max_words=3).build(words()).tokenizer) == 5 + 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"film 1 2 3\nfun 4 5\n", "line 2 has 2 numbers where 3 are expected"),
        (b"film 1 2 3\nfun 4 5 6 7\n", "line 2 has 4 numbers where 3 are expected"),
        (b"film 1 2 x\n", "line 1 is not a word and 3 numbers"),
        (b"zebra 1 2 3\n", "has none of the"),
        (b"\xff\xfe\x00binary", "not UTF-8"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "vectors.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        BiLSTM(vectors=str(tmp_path / "vectors.txt")).build(words())


def test_vector_files_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"student.vectors: .*missing.txt: no such file; give GloVe"):
        BiLSTM(vectors=str(tmp_path / "missing.txt")).build(words())
    np.savez(tmp_path / "objects.npz", words=np.array(["film"], dtype=object), vectors=np.ones((1, 3)))
    with pytest.raises(DataError, match="holds Python objects"):
        BiLSTM(vectors=str(tmp_path / "objects.npz")).build(words())
    np.savez(tmp_path / "uneven.npz", words=np.array(["film"]), vectors=np.ones((2, 3)))
    with pytest.raises(DataError, match=r"vectors float64\[2, 3\]"):
        BiLSTM(vectors=str(tmp_path / "uneven.npz")).build(words())
    np.savez(tmp_path / "good.npz", words=np.array(["film"]), vectors=np.ones((1, 3)))
    with pytest.raises(ModelError, match=r"student\.embedding is 5"):
        BiLSTM(vectors=str(tmp_path / "good.npz"), embedding=5).build(words())
    with pytest.raises(ModelError, match=r"student.width is 5, but .*good.npz has vectors of width 3"):
        StaticEmbeddings(vectors=str(tmp_path / "good.npz"), width=5).build(words())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Narrow(width=128, heads=3), "heads must divide the width; 1, 2, 4"),
        (lambda: Narrow(layers=0), "layers is 0"),
        (lambda: Narrow(intermediate=0), "intermediate is 0"),
        (lambda: Narrow(vocabulary="words", initialize="teacher"), "none of the teacher's tokens"),
        (lambda: BiLSTM(hidden=0), "hidden is 0"),
        (lambda: BiLSTM(dropout=1.0), "dropout is 1.0"),
        (lambda: BiLSTM(vectors="v.txt", vocabulary="data"), "allowed are 'words'"),
        (lambda: StaticEmbeddings(width=-1), "width is -1"),
        (lambda: StaticEmbeddings(width=0), "width is 0"),
        (lambda: StaticEmbeddings(min_count=0), "min_count is 0"),
        (lambda: StaticEmbeddings(vectors="v.txt", vocabulary="teacher"), "vectors are of words, but vocabulary is 'teacher'"),
        (lambda: StaticEmbeddings(dropout=-0.5), "dropout is -0.5"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_teachers_subwords_need_a_teacher():
    with pytest.raises(ModelError, match="bilstm with vocabulary 'data'"):
        BiLSTM(vocabulary="data").build(words())
    with pytest.raises(ModelError, match="narrow with initialize 'teacher'"):
        Narrow(initialize="teacher").build(words())


@pytest.mark.parametrize(("positions", "length"), [(40, 40), (99, 64)])
def test_without_a_length_asked_for_the_shorter_of_both_counts(positions, length, tmp_path):
    teacher = tiny_teacher()
    config = BertConfig(**SIZES | {"max_position_embeddings": positions})
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 10**30
    TextModel(BertForSequenceClassification(config), tokenizer, positions).save(tmp_path / "small")
    student = Pretrained(model=str(tmp_path / "small"))
    assert student.build(words(teacher=teacher)).max_length == length
    with pytest.raises(ModelError, match=f"data.max_length is 100, but .* has {positions} positions"):
        student.build(words(teacher=teacher, max_length=100))


def test_a_bilstm_can_teach(build):
    teacher = build("bilstm")
    for kind in (BiLSTM, StaticEmbeddings, Narrow):
        student = kind().build(words(teacher=teacher))
        assert logits(student).shape == (6, 2)
