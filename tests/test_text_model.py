"""A model and its tokenizer: what is saved is what is loaded, and a fingerprint is of what decides the answers."""

import copy
import json
import shutil

import pytest
import torch
from transformers import BertConfig, RobertaConfig

from tiny import LABELS, TEXTS, encode, logits, tiny_teacher
from understudy.errors import ModelError
from understudy.text_model import TextModel, resolve_max_length, set_label_names


@pytest.fixture
def saved(tmp_path):
    tiny_teacher().save(tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.mark.parametrize("label_names", [LABELS, ("a", "b", "c"), None], ids=["two", "three", "number"])
def test_saved_is_loaded(tmp_path, label_names):
    teacher = tiny_teacher(label_names=label_names)
    teacher.save(tmp_path / "teacher")
    loaded = TextModel.load(tmp_path / "teacher")
    assert (loaded.label_names, loaded.outputs, loaded.max_length) == (label_names, len(label_names or "1"), 64)
    assert loaded.parameters == teacher.parameters and loaded.fingerprint == teacher.fingerprint
    torch.testing.assert_close(logits(loaded), logits(teacher))
    assert {path.suffix for path in (tmp_path / "teacher").iterdir()} == {".json", ".safetensors"}


def test_fingerprints_do_not_hang_on_use(saved):
    """Tokenizing leaves truncation and padding set in the tokenizer; a store or a control must be found all the same."""
    fresh, used = TextModel.load(saved), TextModel.load(saved)
    encode(used, truncation=True, max_length=8, padding="max_length")
    used.model.train()
    assert used.fingerprint == fresh.fingerprint


def test_fingerprints_see_every_part(saved):
    teacher = TextModel.load(saved)
    heavier = copy.deepcopy(teacher.model)
    with torch.no_grad():
        heavier.classifier.bias[0] += 1e-3
    renamed = copy.deepcopy(teacher.model)
    set_label_names(renamed.config, ("good", "bad"))
    cased = copy.deepcopy(teacher.tokenizer)
    cased.add_tokens(["Film"])
    others = {
        "weights": TextModel(heavier, teacher.tokenizer, 64),
        "labels": TextModel(renamed, teacher.tokenizer, 64),
        "tokenizer": TextModel(teacher.model, cased, 64),
        "max_length": TextModel(teacher.model, teacher.tokenizer, 32),
    }
    for part, other in others.items():
        assert {key for key, value in other.fingerprint.items() if value != teacher.fingerprint[key]} == {part}


def test_saving_over_an_older_one_leaves_nothing_of_it(saved):
    (saved / "old.txt").write_text("old")
    tiny_teacher(seed=8).save(saved)
    assert not (saved / "old.txt").exists() and not list(saved.parent.glob(".*"))


def test_a_save_that_fails_leaves_the_older_one(saved, monkeypatch):
    before = (saved / "model.safetensors").read_bytes()
    other = tiny_teacher(seed=8)
    monkeypatch.setattr(
        other.tokenizer, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(OSError, match="No space left"):
        other.save(saved)
    assert (saved / "model.safetensors").read_bytes() == before


def test_a_new_head_where_the_old_one_does_not_fit(saved):
    found = TextModel.load(saved, label_names=("x", "y", "z"), outputs=3)
    assert found.label_names == ("x", "y", "z") and logits(found).shape == (len(TEXTS), 3)
    number = TextModel.load(saved, outputs=1)
    assert number.label_names is None and number.model.config.problem_type == "regression"


def test_padding_in_a_tokenizer_file_is_not_taken_over(saved):
    """Some folders on the hub carry padding and truncation of their own."""
    content = json.loads((saved / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (saved / "tokenizer.json").write_text(json.dumps(content))
    found = TextModel.load(saved)
    assert len(found.tokenizer(TEXTS[3])["input_ids"]) > 4 and found.fingerprint == tiny_teacher().fingerprint


@pytest.mark.parametrize(
    ("config", "asked", "expected"),
    [
        (BertConfig(max_position_embeddings=64), None, 64),
        (BertConfig(max_position_embeddings=4096), None, 512),
        (BertConfig(max_position_embeddings=4096), 1000, 1000),
        (RobertaConfig(max_position_embeddings=66, pad_token_id=1), None, 64),
        (RobertaConfig(max_position_embeddings=66, pad_token_id=1), 64, 64),
    ],
)
def test_how_long_a_row_may_be(config, asked, expected):
    tokenizer = tiny_teacher().tokenizer
    tokenizer.model_max_length = 10**30
    assert resolve_max_length(config, tokenizer, asked, where="it") == expected


def test_longer_than_the_positions(saved):
    with pytest.raises(ModelError, match=r"data.max_length is 65, but .* has 64 positions; ask for at most 64"):
        TextModel.load(saved, max_length=65)
    with pytest.raises(ModelError, match="ask for at most 64"):
        resolve_max_length(RobertaConfig(max_position_embeddings=66), tiny_teacher().tokenizer, 65, where="it")


def test_a_name_of_the_hub_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="no such folder here, and the hub did not give a model of that name"):
        TextModel.load("nobody/has-this-model")


def test_loading_needs_no_network_and_no_pickle(saved, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle was opened")

    monkeypatch.setattr(torch, "load", refuse)
    shutil.copy(saved / "model.safetensors", saved / "pytorch_model.bin")
    assert TextModel.load(saved).fingerprint == tiny_teacher().fingerprint
