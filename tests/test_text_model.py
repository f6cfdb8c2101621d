"""A model and its tokenizer: what is saved is what is loaded, and a fingerprint is of what decides the answers."""

import copy
import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from tiny import LABELS, TEXTS, encode, family, logits, tiny_teacher, write_rows
from understudy.data.examples import fields_of
from understudy.errors import ModelError
from understudy.models.agreement import positions_of, resolve_max_length
from understudy.models.rates import width_of
from understudy.models.text_model import TextModel, set_label_names
from understudy.models.view import MASKED
from understudy.programs.export import export
from understudy.runtime import Predictor
from understudy.teachers.capture import logits_of


@pytest.fixture
def saved(tmp_path):
    tiny_teacher().save(tmp_path / "teacher")
    return tmp_path / "teacher"


def test_weights_are_as_readable_as_the_rest(saved):
    modes = {path.stat().st_mode for path in saved.iterdir()}
    assert len(modes) == 1, "another user, or a container, could not load the model"


def test_a_folder_holds_no_truncation_of_a_call(tmp_path):
    """`transformers` would go on with it: a saved folder is the same whether or not rows were tokenized before."""
    model = tiny_teacher()
    model.save(tmp_path / "before")
    model.view.encode(["a gripping film"])
    model.save(tmp_path / "after")
    first, second = ((tmp_path / name / "tokenizer.json").read_text("utf-8") for name in ("before", "after"))
    assert first == second and json.loads(second)["truncation"] is None


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
    monkeypatch.setattr(other.tokenizer, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        other.save(saved)
    assert (saved / "model.safetensors").read_bytes() == before


def test_a_new_head_where_the_old_one_does_not_fit(saved):
    found = TextModel.load(saved, label_names=("x", "y", "z"), problem_type="single_label_classification")
    assert found.label_names == ("x", "y", "z") and logits(found).shape == (len(TEXTS), 3)
    number = TextModel.load(saved, problem_type="regression")
    assert number.label_names is None and number.model.config.problem_type == "regression"


def test_padding_in_a_tokenizer_file_is_not_taken_over(saved):
    """Some folders on the hub carry padding and truncation of their own."""
    content = json.loads((saved / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (saved / "tokenizer.json").write_text(json.dumps(content))
    found = TextModel.load(saved)
    assert len(found.tokenizer(TEXTS[3])["input_ids"]) > 4 and found.fingerprint == tiny_teacher().fingerprint


@pytest.mark.parametrize(
    ("name", "positions", "asked", "expected"),
    [
        ("Bert", 64, None, 64),
        ("Bert", 4096, None, 512),
        ("Bert", 4096, 1000, 1000),
        ("Roberta", 66, None, 64),
        ("Roberta", 66, 64, 64),
        ("ModernBert", 64, None, 64),
        ("ModernBert", 64, 1000, 1000),
    ],
)
def test_how_long_a_row_may_be(name, positions, asked, expected):
    """Rotary positions are computed: a model may be asked for more of them than it was trained with."""
    found = family(name, max_position_embeddings=positions, pad_token_id=1 if name == "Roberta" else 0)
    found.tokenizer.model_max_length = 10**30
    assert resolve_max_length(found.model, found.tokenizer, asked, where="it") == expected


def test_longer_than_the_positions(saved):
    with pytest.raises(ModelError, match=r"data.max_length is 65, but .* has 64 positions; give at most 64"):
        TextModel.load(saved, max_length=65)
    other = family("Roberta", max_position_embeddings=66, pad_token_id=1)
    with pytest.raises(ModelError, match="at most 64"):
        resolve_max_length(other.model, other.tokenizer, 65, where="it")


POSITIONS = {
    "Bert": 64,
    "DistilBert": 64,
    "Electra": 64,
    "Albert": 64,
    "DebertaV2": 64,
    "MPNet": 62,
    "Bart": 64,
    "GPT2": 64,
    "BigBird": 64,
    "XLMRobertaXL": 62,
    "Data2VecText": 62,
    "Longformer": 62,
    "OPT": 64,
    "RoFormer": 64,
    "ModernBert": None,
    "Llama": None,
    "Qwen2": None,
    "Bloom": None,
}


@pytest.mark.parametrize("name", POSITIONS)
def test_as_many_positions_as_a_family_counts(name):
    """No list of families knows them; the model itself is asked, and runs on a row of just that length."""
    found = family(name, pad_token_id=1)
    positions = positions_of(found.model, found.tokenizer, where=name)
    assert positions == POSITIONS[name]
    if positions is not None:
        for count, fits in ((positions, True), (positions + 1, False)):
            row = torch.full((1, count), 7)
            row[:, 0], row[:, -1] = 2, 3
            with nullcontext() if fits else pytest.raises((IndexError, RuntimeError)):
                found.model(input_ids=row, attention_mask=torch.ones_like(row))


def test_a_name_of_the_hub_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="no such folder, and no model of that name could be loaded from the hub"):
        TextModel.load("nobody/has-this-model")


def test_loading_needs_no_network_and_no_pickle(saved, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle was opened")

    monkeypatch.setattr(torch, "load", refuse)
    shutil.copy(saved / "model.safetensors", saved / "pytorch_model.bin")
    assert TextModel.load(saved).fingerprint == tiny_teacher().fingerprint


# --- the fingerprint is of what decides the outputs

NEUTRAL = {"transformers_version": "4.0.0", "architectures": ["Other"], "_name_or_path": "elsewhere", "problem_type": None}


@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert", "ModernBert", "DebertaV2", "GPT2", "Bart", "Llama"])
def test_what_changes_the_outputs_changes_the_fingerprint(name):
    """Each setting of the config in turn, with the same weights."""
    first = family(name, pad_token_id=1)
    weights, before, told = first.model.state_dict(), logits(first), []
    for setting, value in first.model.config.to_dict().items():
        for other in (*{"gelu", "relu"}, "mean", "cls") if isinstance(value, str) else _others(value):
            config = copy.deepcopy(first.model.config)
            try:
                setattr(config, setting, other)
                model = type(first.model)(config).eval()
                model.load_state_dict(weights)
                after = logits(changed := TextModel(model, first.tokenizer, first.max_length))
            except Exception:
                continue
            if after.shape != before.shape or not torch.equal(after, before):
                told.append(setting)
                assert changed.fingerprint != first.fingerprint, (setting, value, other)
    assert told, "some setting changes the outputs of any family"


def _others(value):
    if isinstance(value, bool):
        return (not value,)
    return (value * 2, value / 2) if isinstance(value, float) else (value * 2, value // 2) if isinstance(value, int) else ()


def test_where_a_config_comes_from_changes_no_fingerprint(saved):
    before = TextModel.load(saved).fingerprint
    path = saved / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | NEUTRAL | {"dtype": "bfloat16"}))
    assert TextModel.load(saved).fingerprint == before


def test_how_texts_are_cut_and_padded_is_in_the_fingerprint(saved):
    prints = [TextModel.load(saved).fingerprint]
    for name, value in (("truncation_side", "left"), ("model_input_names", ["input_ids", "attention_mask"]), ("pad_token", "[UNK]")):
        other = TextModel.load(saved)
        setattr(other.tokenizer, name, value)
        prints.append(other.fingerprint)
    assert len({json.dumps(one) for one in prints}) == len(prints)


# --- a folder and what is in it, checked once


def written(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps({name: value for name, value in (json.loads(path.read_text()) | changed).items() if value is not None}))


def pointer(folder, name="model.safetensors"):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 28000\n")


def truncated(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def shards(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def only(name):
    def change(folder):
        for path in folder.iterdir():
            path.unlink()
        (folder / name).write_text("{}")

    return change


def not_finite(folder):
    broken = TextModel.load(folder)
    with torch.no_grad():
        broken.model.classifier.weight[0, 0] = float("nan")
    broken.save(folder)


def overflowing(folder):
    """Finite weights, as a training that diverges may leave them, whose outputs are not."""
    broken = TextModel.load(folder)
    with torch.no_grad():
        broken.model.classifier.weight.fill_(3e38)
    broken.save(folder)


WRONG = {
    "integers, null": (lambda folder: written(folder, id2label={"0": None, "1": None}), "id2label of 0 is None"),
    "too short": (lambda folder: written(folder, id2label={"0": "bad"}, problem_type=None), "its head has 2 outputs"),
    "a gap": (lambda folder: written(folder, id2label={"0": "bad", "2": "good"}), "without a gap"),
    "twice": (lambda folder: written(folder, id2label={"0": "bad", "1": "bad"}), "'bad' twice"),
    "a list of nothing": (lambda folder: written(folder, id2label=[]), "id2label is"),
    "wider": (lambda folder: written(folder, id2label={"0": "a", "1": "b", "2": "c"}), "has 2 outputs .* names 3 labels"),
    "unknown problem": (lambda folder: written(folder, problem_type="ranking"), "problem_type is 'ranking'; allowed are"),
    "two numbers": (lambda folder: written(folder, problem_type="regression"), "regression with 2 outputs"),
    "no family": (lambda folder: written(folder, model_type=None), "model_type is missing"),
    "unknown family": (lambda folder: written(folder, model_type="bertt"), "'bertt' is unknown"),
    "family of another kind": (lambda folder: written(folder, model_type=["bert"]), "is unknown"),
    "code": (lambda folder: written(folder, model_type="mine", auto_map={"AutoConfig": "x.Y"}), "never run"),
    "quantized": (lambda folder: written(folder, quantization_config={"quant_method": "gptq"}), r"quantized \(gptq\)"),
    "pointer": (pointer, "a pointer of git-lfs"),
    "pointer of a tokenizer": (lambda folder: pointer(folder, "tokenizer.json"), "a pointer of git-lfs"),
    "truncated": (truncated, "cannot be loaded"),
    "shards": (shards, "model-00001-of-00002.safetensors is missing"),
    "a list": (lambda folder: (folder / "config.json").write_text("[1]"), "holds a list"),
    "adapter": (only("adapter_config.json"), "adapter"),
    "gguf": (only("model.gguf"), "GGUF"),
    "onnx": (only("model.onnx"), "ONNX weights only"),
    "export": (only("export.json"), "an export of understudy"),
    "not finite": (not_finite, "not finite numbers"),
    "outputs overflow": (overflowing, "its outputs are not finite numbers"),
    "other width": (lambda folder: written(folder, intermediate_size=64), "but config.json makes it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_loaded_is_one_line_with_its_cause(saved, name, capsys):
    change, message = WRONG[name]
    change(saved)
    with pytest.raises(ModelError, match=message) as refused:
        TextModel.load(saved)
    assert "\n" not in str(refused.value) and capsys.readouterr().out == ""


def test_code_in_a_folder_never_runs_and_never_asks(saved, monkeypatch, tmp_path):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    (saved / "x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    written(saved, auto_map={"AutoConfig": "x.Y", "AutoModelForSequenceClassification": "x.Z"})
    assert TextModel.load(saved).fingerprint == tiny_teacher().fingerprint, "a family that is known needs no code"
    assert not (tmp_path / "ran").exists()


CODE = {"AutoConfig": "x.Y", "AutoModel": "x.Z", "AutoModelForSequenceClassification": "x.Z"}
REMOTE = {name: f"other/repository--{there}" for name, there in CODE.items()}


@pytest.mark.parametrize("code", [CODE, REMOTE, "x.Y"], ids=["here", "elsewhere", "text"])
@pytest.mark.parametrize("family", ["mine", "bertt", "../bert", ["bert"], 3, None])
def test_a_family_that_is_code_is_one_line_whatever_it_is_called(saved, monkeypatch, tmp_path, capsys, family, code):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    (saved / "x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    written(saved, model_type=family, auto_map=code)
    for loading in ({}, {"problem_type": "single_label_classification"}, {"masked_lm": True}):
        with pytest.raises(ModelError, match="never run") as refused:
            TextModel.load(saved, **loading)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists() and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_that_a_config_names_are_not_fetched(saved, name):
    """`attn_implementation: owner/name` makes `transformers` fetch code from the hub where the package `kernels` is there."""
    written(saved, **{name: "owner/name"})
    assert TextModel.load(saved).fingerprint == tiny_teacher().fingerprint


def test_code_of_a_known_family_is_noted_and_weights_only_it_can_use_are_refused(saved, caplog):
    from safetensors.torch import load_file, save_file

    written(saved, auto_map=CODE)
    TextModel.load(saved)
    assert "never run; the model is read as the 'bert'" in caplog.text
    weights = load_file(saved / "model.safetensors")
    save_file(weights | {"bert.encoder.layer.0.gate.weight": torch.ones(2)}, saved / "model.safetensors")
    with pytest.raises(ModelError, match=r"has no place for 1 of its weights .bert.encoder.layer.0.gate.weight"):
        TextModel.load(saved)


def test_a_family_that_is_unknown_or_no_classifier(saved):
    written(saved, model_type="BERT")
    with pytest.raises(ModelError, match=r"Did you mean 'bert'\?"):
        TextModel.load(saved)
    written(saved, model_type="vit")
    with pytest.raises(ModelError, match="has no sequence classifier for model_type 'vit'"):
        TextModel.load(saved)
    (saved / "modeling.py").write_text("raise SystemExit")
    written(saved, model_type="mine")
    with pytest.raises(ModelError, match=r"holds code .modeling.py., which is never run"):
        TextModel.load(saved)


def test_a_list_of_labels_is_read(saved):
    written(saved, id2label=["bad", "good"], label2id=None)
    assert TextModel.load(saved).label_names == LABELS
    assert TextModel.load(saved, label_names=("x", "y"), problem_type="single_label_classification").label_names == (
        "x",
        "y",
    )  # the tokenizer reads the config too


def test_a_width_that_is_no_number_is_left_to_loading(saved):
    assert width_of(str(saved)) == 16
    written(saved, hidden_size="wide")
    assert width_of(str(saved)) is None
    with pytest.raises(ModelError, match="hidden_size"):
        TextModel.load(saved, label_names=LABELS, problem_type="single_label_classification")


def test_labels_are_text(saved):
    written(saved, id2label={"0": 0, "1": 1}, label2id=None)
    assert TextModel.load(saved).label_names == ("0", "1")


def test_no_token_is_beyond_the_embeddings(saved):
    teacher = TextModel.load(saved)
    teacher.tokenizer.add_tokens(["superb"])
    teacher.tokenizer.save_pretrained(saved)
    rows = teacher.model.config.vocab_size
    with pytest.raises(ModelError, match=rf"the tokenizer has {rows + 1} tokens, the model embeddings for {rows}"):
        TextModel.load(saved)


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Qwen2"])
@pytest.mark.parametrize("where", ["nowhere", "in the config", "in the tokenizer"])
def test_the_end_token_pads_where_there_is_no_other(tmp_path, name, where):
    """Wherever it is said, the outputs are those of the rows alone; saved and loaded, it is still so."""
    made = family(name)
    made.tokenizer.eos_token = "[SEP]"
    made.tokenizer.pad_token = "[SEP]" if where == "in the tokenizer" else None
    made.model.config.pad_token_id = made.tokenizer.eos_token_id if where == "in the config" else None
    for part in (made.model, made.tokenizer):
        part.save_pretrained(tmp_path / "one")
    found = TextModel.load(tmp_path / "one")
    assert found.tokenizer.pad_token == "[SEP]" and found.model.config.pad_token_id == found.tokenizer.pad_token_id
    alone = torch.cat([logits(found, [text]) for text in TEXTS])
    torch.testing.assert_close(logits(found, padding_side="right"), alone, rtol=1e-3, atol=1e-5)
    found.save(tmp_path / "two")
    assert TextModel.load(tmp_path / "two").fingerprint == found.fingerprint


def test_pad_tokens_that_differ_are_refused_where_it_matters(tmp_path):
    for name in ("Bert", "GPT2"):
        made = family(name, pad_token_id=5)  # [unused0], which this tokenizer does not know as special
        made.save(tmp_path / name)
    assert TextModel.load(tmp_path / "Bert").tokenizer.pad_token_id == 0  # hidden by the attention mask
    with pytest.raises(ModelError, match=r"pads with '\[PAD\]' \(0\), config.json says '\[unused0\]' \(5\)"):
        TextModel.load(tmp_path / "GPT2")


@pytest.mark.parametrize("name", ["runs/t00", "./t00", "/nowhere/t00"])
def test_a_local_folder_is_not_sent_to_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "t0").mkdir(parents=True)
    with pytest.raises(ModelError, match="no such model folder" + (r" \(did you mean 'runs/t0'\?\)" if "runs" in name else "")):
        TextModel.load(name)
    (tmp_path / "a.csv").write_text("text")
    with pytest.raises(ModelError, match="is a file"):
        TextModel.load("a.csv")


# --- text is text

SPELLED = "[CLS] [SEP] [PAD] [MASK] </s> <s> <pad> <mask> <|endoftext|> <unk>"


def whole_words(**specials):
    """A tokenizer that cuts at blanks: each special token is one of its words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "film", "good", "bad", "the"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.mark.parametrize("cut", ["letters", "blanks"])
def test_a_special_token_in_a_text_is_text(cut):
    model = family("Bart", pad_token_id=1, bos_token_id=0, eos_token_id=2) if cut == "blanks" else tiny_teacher()
    found = TextModel(model.model, whole_words(), 32) if cut == "blanks" else model
    rows = Dataset.from_dict({"text": [f"a film {SPELLED} the", "a film"], "text_pair": ["good", f"bad {SPELLED}"]})
    for given, count in ((rows, 3), (rows.remove_columns("text_pair"), 2)):
        for row in fields_of(found, given)["input_ids"]:
            special = [token for token in row if token in found.view.special_ids]
            assert len(special) == count, "those that the tokenizer puts around texts"
    assert np.isfinite(logits_of(found, rows.remove_columns("text_pair"))).all()


def test_what_masking_writes_is_the_mask_token():
    found = tiny_teacher()
    fields = fields_of(found, Dataset.from_dict({"text": [f"a {MASKED} film", "a [MASK] film"]}))
    assert [row.tolist().count(found.tokenizer.mask_token_id) for row in fields["input_ids"]] == [1, 0]


def test_a_tokenizer_is_known_by_what_it_is_and_not_by_its_last_call():
    model, other = tiny_teacher(), tiny_teacher()
    backend = model.tokenizer.backend_tokenizer
    model.tokenizer(["a film", "a"], truncation=True, max_length=5, padding=True)
    before = backend.truncation, backend.padding
    assert None not in before and model.fingerprint == other.fingerprint and model.view is other.view
    assert (backend.truncation, backend.padding) == before


def test_a_saved_tokenizer_reads_alike_in_transformers(saved):
    plain = AutoTokenizer.from_pretrained(saved)
    assert plain(SPELLED)["input_ids"] == TextModel.load(saved).tokenizer(SPELLED)["input_ids"]


def test_an_export_reads_special_tokens_as_its_model_does(tmp_path):
    """Of a family that counts the tokens at the end of a text, and of a vocabulary that has them as words."""
    model = family("Electra", pad_token_id=1)
    TextModel(model.model, whole_words(), 32).save(tmp_path / "model")
    data = write_rows(
        tmp_path / "rows.jsonl",
        [
            {"text": text, "label": LABELS[number % 2]}
            for number, text in enumerate([f"a {SPELLED} film", "a film", SPELLED, "the </s> good"])
        ],
    )
    export(tmp_path / "model", tmp_path / "export", data=data)
    texts = [f"a {SPELLED} film", SPELLED, "</s>", "good <pad>"]
    expected = logits_of(TextModel.load(tmp_path / "model"), Dataset.from_dict({"text": texts}))
    np.testing.assert_allclose(Predictor(tmp_path / "export").logits(texts), expected, atol=1e-4)


def test_a_length_beyond_the_default_is_kept(tmp_path):
    made = family("Bert", max_position_embeddings=1024)
    TextModel(made.model, made.tokenizer, 1000).save(tmp_path / "long")
    assert TextModel.load(tmp_path / "long").max_length == 1000


@pytest.mark.parametrize("label2id", [{"bad": 1, "good": 0}, {"bad": 0, "good": "0"}, {"good": 7}])
def test_a_label2id_that_contradicts_id2label_is_refused(label2id, tmp_path):
    tiny_teacher(layers=1).save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"label2id": label2id}))
    with pytest.raises(ModelError, match=r"label2id gives '.*' the number .*, but id2label .; id2label counts"):
        TextModel.load(tmp_path / "model")
    for fitting in ({"bad": 0, "good": "1"}, {"LABEL_0": 0, "LABEL_1": 1}, {}, None):
        path.write_text(json.dumps(config | {"label2id": fitting}))
        assert TextModel.load(tmp_path / "model").label_names == ("bad", "good")


def test_the_load_report_of_transformers_is_silent_here_alone(tmp_path, caplog):
    import logging

    log = logging.getLogger("transformers.modeling_utils")
    caplog.set_level(logging.WARNING, logger=log.name)
    said, before = [], (log.level, list(log.filters))
    handler = logging.Handler()
    handler.emit = said.append
    log.addHandler(handler)
    try:
        tiny_teacher(layers=1).save(tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": None}))
        with pytest.raises(ModelError, match="its head has 2 outputs"):
            TextModel.load(tmp_path / "model")
        assert not said and (log.level, list(log.filters)) == before
        log.warning("LOAD REPORT of another")
        assert len(said) == 1
    finally:
        log.removeHandler(handler)
