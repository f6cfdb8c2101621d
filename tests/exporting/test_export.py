"""Every kind of student and a teacher as an export: the same answers, nothing of this machine in it, and a gate that holds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard

from conftest import largest_file, write_graph
from tiny import LABELS, SECOND_TEXTS, TEXTS, logits, tiny_teacher, write_rows
from understudy import parts
from understudy.data.examples import fields_of
from understudy.errors import DataError, ExportError, ModelError, RunFolderError
from understudy.exporting import folder as export_folder
from understudy.exporting.folder import write_export
from understudy.exporting.graph import OPSET
from understudy.exporting.parity import _agreement, complaints, expected, parity
from understudy.installation import install_command
from understudy.models.encoder import layers
from understudy.models.text_model import TextModel
from understudy.programs.export import export
from understudy.runtime import Predictor
from understudy.students import Blueprint
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity

# Random weights of a larger spread than a wide network is made for, as tiny models here have, leave no digits to quantize.
SETTINGS = {"narrow": {"width": 16, "layers": 1}, "teacher_layers": {"layers": [0]}}
KINDS = ["teacher", *sorted(parts.kinds("students"))]
# All four are a BERT, whose graph takes torch seconds: each in one of the two forms, with one layer or, `pretrained`, with three.
BERTS = {"teacher": True, "narrow": False, "pretrained": True, "teacher_layers": False}
FORMS = [(kind, pair) for kind in KINDS for pair in (False, True) if BERTS.get(kind, pair) is pair]


@pytest.fixture(scope="module")
def cheap(world, tmp_path_factory) -> tuple[str, str, str]:
    """A model whose graph is written in a second, and the options that name its rows."""
    folder = tmp_path_factory.mktemp("cheap") / "model"
    blueprint = Blueprint(TEXTS, LABELS, max_length=32, teacher=tiny_teacher())
    parts.part("students", "static_embeddings")(width=16, hidden=16).build(blueprint).save(folder)
    return str(folder), "--data", world.validation


def rows_of(pair: bool, labels: list | None = None) -> Dataset:
    columns = {"text": list(TEXTS), "label": labels or [0, 1] * (len(TEXTS) // 2)}
    return Dataset.from_dict(columns | ({"text_pair": list(SECOND_TEXTS)} if pair else {}))


def predictions(folder: Path, int8: bool, pair: bool) -> np.ndarray:
    return Predictor(folder, threads=1, int8=int8).logits(TEXTS, SECOND_TEXTS if pair else None)


@pytest.mark.usefixtures("kept_graphs")
@pytest.mark.parametrize(("kind", "pair"), FORMS)
def test_every_kind_answers_as_the_model(kind, pair, build, tmp_path):
    model = tiny_teacher(layers=1) if kind == "teacher" else build(kind, pair=pair, **SETTINGS.get(kind, {}))
    rows = rows_of(pair)
    done = write_export(model, tmp_path / "out", expected(model, rows), Classification(), allow_loss=True)
    assert done.parity["float32"]["passed"] and done.parity["float32"]["largest_logit_difference"] < 1e-4
    wanted = logits(model, second_texts=SECOND_TEXTS if pair else None).numpy()
    np.testing.assert_allclose(predictions(tmp_path / "out", False, pair), wanted, atol=1e-4)
    spread = np.ptp(wanted)
    assert np.abs(predictions(tmp_path / "out", True, pair) - wanted).max() < 0.2 * spread
    # One by one, in a batch of all, and of one column only.
    for row, text in enumerate(TEXTS):
        alone = Predictor(tmp_path / "out", threads=1, int8=False).logits([text], [SECOND_TEXTS[row]] if pair else None)
        np.testing.assert_allclose(alone[0], wanted[row], atol=1e-4)

    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert graph.opset_import[0].version == OPSET == json.loads((tmp_path / "out" / "export.json").read_text())["opset"]
    for one in graph.graph.input:
        assert [size.dim_param for size in one.type.tensor_type.shape.dim] == ["batch", "length"]
    sizes = {name: (tmp_path / "out" / name).stat().st_size for name in ("model.onnx", "model.int8.onnx")}
    for name in sizes:
        content = (tmp_path / "out" / name).read_bytes()
        assert b"site-packages" not in content and b"understudy/" not in content, "paths of this machine"
    quantized = onnx.load(tmp_path / "out" / "model.int8.onnx").graph
    kept = [
        one.name
        for one in quantized.initializer
        if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) > 1 and not re.search("scale|bias", one.name)
    ]
    assert bool(kept) == done.parity["int8"].get("spared", False), "weights that were not quantized"
    if kind == "bilstm":
        assert "DynamicQuantizeLSTM" in {node.op_type for node in quantized.node}
        assert sizes["model.int8.onnx"] < 0.4 * sizes["model.onnx"]


@pytest.mark.parametrize("kind", ["teacher", "bilstm"])
def test_numbers(kind, build, tmp_path):
    model = tiny_teacher(label_names=None, layers=1) if kind == "teacher" else build(kind, label_names=None, pair=True)
    rows = rows_of(True, [float(row) for row in range(len(TEXTS))])
    done = write_export(model, tmp_path / "out", expected(model, rows), Similarity(), precisions=("float32",))
    assert done.parity["float32"]["metric"] == "pearson" and done.parity["float32"]["agreement"] == pytest.approx(1)
    answers = Predictor(tmp_path / "out").predict(TEXTS, SECOND_TEXTS)
    wanted = logits(model, second_texts=SECOND_TEXTS)[:, 0].tolist()
    assert [one["value"] for one in answers] == pytest.approx(wanted, abs=1e-4) and "label" not in answers[0]


@pytest.mark.usefixtures("kept_graphs")
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("kind", ["teacher", "static_embeddings"])
def test_texts_are_cut_as_in_training(kind, pair, build, tmp_path):
    """The very token ids, with a text much longer than the model reads beside a short one and in either place."""
    model = tiny_teacher(layers=1) if kind == "teacher" else build(kind, pair=pair)
    texts = ["a gripping film " * 40, "a film", "one of the best " * 9, "fun"]
    rows = Dataset.from_dict({"text": texts, "label": [0] * 4} | ({"text_pair": texts[::-1]} if pair else {}))
    write_export(model, tmp_path / "out", expected(model, rows), Classification(), precisions=("float32",))
    export = Predictor(tmp_path / "out")
    (found, _), fields = export._view.encode(texts, texts[::-1] if pair else None), fields_of(model, rows)
    plain = model.tokenizer(texts, texts[::-1] if pair else None, truncation=True, max_length=model.max_length)
    assert found.keys() == fields.keys() == {"input_ids", *(["token_type_ids"] if pair else [])}
    for name, field in fields.items():
        assert [row.tolist() for row in found[name]] == [row.tolist() for row in field] == plain[name]
    assert found["input_ids"].lengths[0] == model.max_length


@pytest.mark.usefixtures("kept_graphs")
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_a_text_without_tokens_is_one_unknown_token_everywhere(pair, tmp_path):
    """A tokenizer that puts nothing around texts leaves nothing of a zero-width blank."""
    from tokenizers.processors import TemplateProcessing

    from understudy.evaluation.speed import answering

    model = tiny_teacher(layers=1)
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    texts = ["\u200b", "a film", "[UNK]"]
    rows = Dataset.from_dict({"text": texts, "label": [0] * 3} | ({"text_pair": ["\u200b"] * 3} if pair else {}))
    ids = fields_of(model, rows)["input_ids"]
    assert ids.lengths.tolist()[:2] == [1, 2] and ids[0].tolist() == [model.tokenizer.unk_token_id]
    wanted = expected(model, rows)
    write_export(model, tmp_path / "out", wanted, Classification(), precisions=("float32",))
    found = Predictor(tmp_path / "out").logits(texts, ["\u200b"] * 3 if pair else None)
    assert found == pytest.approx(wanted.logits, abs=1e-4)
    alone = answering(model)([("\u200b", "\u200b" if pair else None)])
    assert alone.numpy() == pytest.approx(wanted.logits[:1], abs=1e-4)


@pytest.mark.real
def test_the_real_encoder(tmp_path):
    """Two of its six layers, which are alike: torch takes seconds for each."""
    from understudy.programs.demo import minilm

    torch.manual_seed(0)
    model = TextModel.load(minilm(), label_names=LABELS, problem_type="single_label_classification")
    del layers(model.model)[2:]
    model.model.config.num_hidden_layers = 2
    rows = Dataset.from_dict({"text": ["a gripping film", "Das Haus ist alt.", "一部好电影", "x " * 600]})
    done = write_export(model, tmp_path / "out", expected(model, rows.add_column("label", [-100] * 4)), Classification(), allow_loss=True)
    assert done.parity["float32"]["passed"] and "metric" not in done.parity["float32"]
    assert done.parity["int8"]["largest_logit_difference"] < 0.01
    assert (tmp_path / "out" / "model.int8.onnx").stat().st_size < 16 * 2**20


# --- the folder


@pytest.fixture
def run(world, tmp_path, understudy, quick) -> Path:
    small = ["--student", "bilstm", "--set", "student.hidden=8", "--set", "student.embedding=8", "--set", "student.feature=8"]
    said = understudy(*world.distill("hinton", tmp_path / "run", "--no-control", "--set", "stages.0.train.max_steps=2", *small))
    assert said.code == 0, said.err
    return tmp_path / "run"


def test_from_a_run_folder(run, world, tmp_path, understudy):
    said = understudy("export", run, "--out", tmp_path / "out", "--int8", "--allow-loss", "--json")
    assert said.code == 0, said.err
    assert said.json["parity"].keys() == {"float32", "int8"}
    assert said.json["parity"]["float32"]["rows"] == 30  # the validation rows
    assert said.json["parity"]["float32"]["metric"] == "accuracy"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.onnx", "model.int8.onnx", "tokenizer.json", "export.json", "README.md"}
    tokenizer = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert tokenizer["padding"] is None and tokenizer["truncation"] is None
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["labels"] == list(LABELS) and about["task"] == "classification" and about["pair"] is False

    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.tags == ["understudy", "onnx", "knowledge-distillation", "classification"]
    accuracy = next(one for one in card.data.eval_results if one.metric_name == "accuracy")
    facts = json.loads((run / "facts.json").read_text())
    assert accuracy.metric_value == facts["models"]["student"]["quality"]["accuracy"]["value"]
    assert "Recipe `hinton`" in card.text and "Distilled from teacher" in card.text and str(tmp_path) not in card.content

    again = understudy("export", run / "student", "--out", tmp_path / "again", "--json")
    assert again.json["parity"]["float32"] == said.json["parity"]["float32"]


def test_rows_that_are_gone_or_never_were(run, world, tmp_path, understudy):
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace(world.validation, str(tmp_path / "gone.jsonl")))
    said = understudy("export", run, "--out", tmp_path / "out")
    assert said.code == 2 and "gone.jsonl" in said.err and "--data FILE" in said.err
    said = understudy("export", world.teacher, "--out", tmp_path / "out")
    assert said.code == 2 and "not in a run folder" in said.err and "--data FILE" in said.err
    (run / "student").rename(run / "elsewhere")
    said = understudy("export", run, "--out", tmp_path / "out")
    assert said.code == 2 and "--resume" in said.err
    assert not (tmp_path / "out").exists()
    said = understudy(
        "export",
        run / "elsewhere",
        "--data",
        write_rows(tmp_path / "rows.jsonl", [{"text": "a film"}]),
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert said.code == 0 and said.json["parity"]["float32"]["rows"] == 1  # no labels, no metric
    assert "metric" not in said.json["parity"]["float32"]


def test_rows_of_another_kind(build, tmp_path):
    for pair in (True, False):
        model = build("static_embeddings", pair=pair)
        model.save(tmp_path / f"{pair}")
        row = {"text": "a film", "label": "good"} | ({} if pair else {"text_pair": "a film"})
        with pytest.raises(DataError, match="two texts" if pair else "one text"):
            export(tmp_path / f"{pair}", tmp_path / "out", data=write_rows(tmp_path / "rows.jsonl", [row]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["single_export", "pair_export", "number_export"])
def test_the_example_of_the_card_runs(which, request):
    folder = request.getfixturevalue(which)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)[1]
    assert len(code.splitlines()) == 10
    said = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    pair = None if which == "single_export" else ["a moving one"]
    answer = Predictor(folder).predict(["a gripping film"], pair)[0]
    if which == "number_export":
        assert float(said.stdout.strip(" []\n")) == pytest.approx(answer["value"], abs=1e-5)
    else:
        assert said.stdout.strip() == answer["label"]


@pytest.mark.usefixtures("kept_graphs")
def test_what_is_there_is_kept(cheap, tmp_path, understudy):
    words = ["export", *cheap, "--out"]
    assert understudy(*words, tmp_path / "out").code == 0
    (tmp_path / "out" / "export.json").write_text((tmp_path / "out" / "export.json").read_text() + " ")
    before = (tmp_path / "out" / "export.json").read_bytes()
    said = understudy(*words, tmp_path / "out")
    assert said.code == 2 and "--overwrite" in said.err and (tmp_path / "out" / "export.json").read_bytes() == before
    assert understudy(*words, tmp_path / "out", "--overwrite").code == 0
    assert (tmp_path / "out" / "export.json").read_bytes() != before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    said = understudy(*words, tmp_path / "mine", "--overwrite")
    assert said.code == 2 and "not an export" in said.err and (tmp_path / "mine" / "letter.txt").is_file()
    said = understudy(*words, tmp_path / "mine" / "letter.txt")
    assert said.code == 2 and "is a file" in said.err


def test_a_full_disk_leaves_nothing(cheap, tmp_path, understudy):
    """The system lets no file grow beyond what the graph needs."""
    with largest_file(6_000):
        said = understudy("export", *cheap, "--out", tmp_path / "out")
    assert said.code == 1 and "File too large. Make room" in said.err and "--resume" not in said.err, said.err
    assert "Traceback" not in said.err and not list(tmp_path.iterdir())


# --- the gate


def other_model() -> TextModel:
    blueprint = Blueprint(TEXTS, LABELS, max_length=32, seed=9, teacher=tiny_teacher(seed=9))
    return parts.part("students", "static_embeddings")(width=16, hidden=16).build(blueprint)


def other_graph(model, path, *, pair):
    """A graph of another model than the one that was asked for."""
    write_graph(other_model(), path, pair=pair)


def test_a_graph_that_answers_otherwise_is_refused(cheap, tmp_path, understudy, monkeypatch):
    words = ["export", *cheap, "--out", tmp_path / "out"]
    monkeypatch.setattr(export_folder, "write_graph", other_graph)
    said = understudy(*words)
    assert (said.code, said.out) == (1, "") and not list(tmp_path.iterdir())
    assert "the float32 export does not match the model: its logits differ by up to" in said.err
    assert "--allow-loss" in said.err
    said = understudy(*words, "--allow-loss")
    assert said.code == 0 and "more than is allowed" in said.out
    assert json.loads((tmp_path / "out" / "export.json").read_text())["parity"]["float32"]["passed"] is False
    assert "**model.onnx differs from the model by more than is allowed" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.usefixtures("kept_graphs")
def test_a_quantized_graph_that_answers_otherwise(cheap, tmp_path, monkeypatch):
    from understudy.exporting.graph import write_int8

    def wrong(graph, quantized, **_):
        write_graph(other_model(), tmp_path / "other.onnx", pair=False)
        write_int8(tmp_path / "other.onnx", quantized)

    monkeypatch.setattr(export_folder, "write_int8", wrong)
    with pytest.raises(ExportError, match=r"the int8 export .* it matches the model on .* \(98 % required\), and accuracy falls from"):
        export(cheap[0], tmp_path / "out", int8=True, data=cheap[2])
    assert not (tmp_path / "out").exists()
    # A run drops what fails and keeps what passes.
    model = TextModel.load(cheap[0])
    wanted = expected(model, rows_of(False))
    found = write_export(model, tmp_path / "out", wanted, Classification(), drop=True)
    assert found.kept == ["float32"] and found.complaints.keys() == {"int8"}
    assert not (tmp_path / "out" / "model.int8.onnx").exists()
    with pytest.raises(ModelError, match="no int8 model, only float32"):
        Predictor(tmp_path / "out", int8=True)
    found = write_export(model, tmp_path / "none", wanted, Classification(), precisions=("int8",), drop=True)
    assert found.folder is None and found.kept == [] and not (tmp_path / "none").exists() and found.complaints.keys() == {"int8"}


class Faulty(Predictor):
    """Stands in for an export: right but for the rows that `wrong` picks."""

    def __init__(self, model, wrong):
        self.about, self.model, self.wrong = {}, model, wrong

    def logits(self, texts, pairs=None):
        found = logits(self.model, texts, truncation=True, max_length=self.model.max_length).numpy().copy()
        found[self.wrong(texts)] += 0.01
        return found


FAULTS = {
    "alone": lambda texts: [len(texts) == 1] * len(texts),
    "in batches": lambda texts: [len(texts) > 1] * len(texts),
    "short": lambda texts: [len(text) == 1 for text in texts],
    "long": lambda texts: [len(text) > 1000 for text in texts],
    "one row": lambda texts: [text == TEXTS[2] for text in texts],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_gate_looks_everywhere(fault, teacher):
    wanted = expected(teacher, rows_of(False))
    assert not complaints(parity(wanted, Faulty(teacher, lambda texts: []), Classification()), "float32", Classification())
    assert complaints(parity(wanted, Faulty(teacher, FAULTS[fault]), Classification()), "float32", Classification())


def test_what_the_gate_allows():
    right = {"largest_logit_difference": 0.3, "agreement": 0.98, "metric": "accuracy", "model": 0.9, "export": 0.89}
    assert not complaints(right, "int8", Classification())
    for change in ({"agreement": 0.979}, {"export": 0.889}, {"largest_logit_difference": float("nan")}, {"agreement": float("nan")}):
        assert complaints(right | change, "int8", Classification()), change
    assert not complaints({"largest_logit_difference": 0.001, "agreement": 1.0}, "float32", Classification())
    for difference in (0.0011, float("nan"), float("inf")):
        assert complaints({"largest_logit_difference": difference, "agreement": 1.0}, "float32", Classification())


def test_a_model_that_is_broken_itself(teacher):
    with torch.no_grad():
        teacher.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        expected(teacher, rows_of(False))


def test_without_the_extra(world, tmp_path, understudy, monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there(name))
    said = understudy("export", world.teacher, "--data", world.validation, "--out", tmp_path / "out")
    assert said.code == 2 and "needs onnxscript" in said.err and f"run: {install_command('export')}" in said.err


def test_a_model_that_torch_cannot_export(world, tmp_path, understudy, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no such operator\nlong advice")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    said = understudy("export", world.teacher, "--data", world.validation, "--out", tmp_path / "out")
    assert said.code == 1 and said.err.endswith("cannot write it as ONNX: no such operator\n")
    assert not list(tmp_path.iterdir())


def test_two_exports_at_the_same_place(tmp_path, teacher):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "something").write_text("")
    with pytest.raises(RunFolderError, match="not an export"):
        write_export(teacher, tmp_path / "out", expected(teacher, rows_of(False)), Classification(), overwrite=True)


def test_agreement_is_a_share_of_rows():
    """364 answers of 300 rows, 64 of them asked twice: the newcomer saw 99.45 % of 300 rows."""
    wanted = np.tile([1.0, 0.0], (300, 1))
    alone, in_batches = np.arange(64), wanted.copy()
    in_batches[[5, 100]] = [0.0, 1.0]
    one_by_one = wanted[alone].copy()
    one_by_one[[5, 6]] = [0.0, 1.0]
    found = _agreement(Classification(), in_batches, one_by_one, wanted, alone=alone)
    assert found == pytest.approx(297 / 300) and round(found * 300, 9).is_integer()
