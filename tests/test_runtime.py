"""Predictions from an export: without torch, whatever the texts hold, one clear message for what cannot be."""

import csv
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import LABELS, tiny_rows
from understudy import runtime
from understudy.errors import DataError, ModelError
from understudy.programs.predict import predict
from understudy.runtime import Predictor, six_digits


def alone(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Code in a process of its own."""
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, words)], capture_output=True, text=True, check=False)


# --- what it needs


def test_needs_onnxruntime_tokenizers_and_numpy_only(single_export):
    """All else that is installed is hidden, as if it were not there."""
    said = alone(
        """
        import importlib.abc, sys
        allowed = {"understudy", "numpy", "onnxruntime", "tokenizers"}
        class Hidden(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                top = name.partition(".")[0]
                if top not in allowed and top not in sys.stdlib_module_names:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Hidden())
        from understudy.runtime import Predictor
        print(Predictor(sys.argv[1]).predict(["a gripping film"])[0]["label"])
        """,
        single_export,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() in LABELS


def test_first_answer_within_a_second(single_export):
    """Of the processor's time; a busy machine is not the runtime's fault."""
    said = alone(
        """
        import sys, time
        from understudy.runtime import Predictor
        Predictor(sys.argv[1]).predict(["a gripping film"])
        print(time.process_time())
        """,
        single_export,
    )
    assert float(said.stdout) < 1, said.stderr


def test_the_command_loads_no_torch(single_export, world):
    said = alone(
        """
        import sys
        from understudy.cli import main
        sys.argv = ["understudy", "predict", *sys.argv[1:]]
        try:
            main()
        except SystemExit as end:
            assert not end.code
        print("heavy:", {"torch", "transformers", "datasets", "scipy", "sklearn", "pandas"} & set(sys.modules))
        """,
        single_export,
        "--input",
        world.test,
    )
    assert said.stdout.splitlines()[-1] == "heavy: set()", said.stderr
    assert len(said.stdout.splitlines()) == 31


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_package_that_is_missing(package, single_export, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"need {package}, which is not installed; run: .*\[export\]"):
        Predictor(single_export)


# --- the same answers


@pytest.mark.parametrize("which", ["single", "pair", "number"])
def test_as_the_torch_model(which, request):
    world, folder = (
        request.getfixturevalue("world" if which == "single" else f"{which}_world"),
        request.getfixturevalue(f"{which}_export"),
    )
    rows = tiny_rows(50, seed=3, pair=which != "single", number=which == "number")
    texts, pairs = [row["text"] for row in rows], [row["text_pair"] for row in rows] if which != "single" else None
    said, wanted = Predictor(folder, int8=False).predict(texts, pairs), predict(world.teacher, texts=texts, pairs=pairs)
    assert [one.keys() for one in said] == [one.keys() for one in wanted]
    for one, other in zip(said, wanted, strict=True):
        assert one["text"] == other["text"] and one.get("text_pair") == other.get("text_pair")
        if which == "number":
            assert one["value"] == pytest.approx(other["value"], abs=1e-4)
        else:
            assert one["label"] == other["label"] and one["probability"] == max(one["probabilities"].values())
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def test_many_rows_keep_their_order(single_export):
    """Short and long ones mixed, more than are sorted together."""
    texts = [" ".join(["good", "dull"][row % 2] for _ in range(1 + (7 * row) % 50)) for row in range(runtime._CHUNK_ROWS + 300)]
    export = Predictor(single_export, int8=False)
    found = export.logits(texts)
    picked = [0, 1, 49, 50, runtime._CHUNK_ROWS - 1, runtime._CHUNK_ROWS, len(texts) - 1]
    for row in picked:
        np.testing.assert_allclose(found[row], export.logits([texts[row]])[0], atol=1e-4)
    assert export.logits([]).shape == (0, 2) and export.predict([]) == []


def test_the_quantized_model_where_there_is_one(single_export, tmp_path):
    assert Predictor(single_export).precision == "int8"
    assert Predictor(single_export, int8=False).precision == "float32"
    shutil.copytree(single_export, tmp_path / "export")
    about = json.loads((tmp_path / "export" / "export.json").read_text())
    del about["files"]["int8"]
    (tmp_path / "export" / "export.json").write_text(json.dumps(about))
    assert Predictor(tmp_path / "export").precision == "float32"
    with pytest.raises(ModelError, match="no int8 model, only float32"):
        Predictor(tmp_path / "export", int8=True)


def test_a_stream_is_read_as_it_is_used(single_export, monkeypatch):
    monkeypatch.setattr(runtime, "_CHUNK_ROWS", 8)
    taken = []

    def rows():
        for row in range(100):
            taken.append(row)
            yield "a dull film" if row % 2 else "good fun"

    export = Predictor(single_export)
    answers = export.stream(rows())
    first = next(answers)
    assert len(taken) <= 9 and first["text"] == "good fun"
    rest = list(answers)
    assert len(rest) == 99 and [one["text"] for one in rest[:2]] == ["a dull film", "good fun"]
    assert rest[1]["label"] == first["label"]


def test_a_row_of_a_stream_is_named_by_its_number(single_export, monkeypatch):
    monkeypatch.setattr(runtime, "_CHUNK_ROWS", 8)
    with pytest.raises(DataError, match="row 21: text is empty"):
        list(Predictor(single_export).stream(["a film"] * 20 + [" "]))
    with pytest.raises(DataError, match="row 18: not UTF-8"):
        list(Predictor(single_export).stream(["a film"] * 17 + ["a\udce9"]))


def test_threads(single_export):
    assert Predictor(single_export, threads=1)._session.get_session_options().intra_op_num_threads == 1
    assert Predictor(single_export).threads >= 1


# --- hostile texts

HOSTILE = {
    "null bytes": "a \0 gripping\0 film",
    "nothing but null bytes": "\0\0",
    "nothing that a tokenizer keeps": "\u200b\u200d\ufeff",
    "a megabyte": "a gripping film " * 65_536,
    "a megabyte without a space": "x" * 2**20,
    "emoji and marks": "👩‍👩‍👧‍👦 é" + "\u0301" * 500,
    "right to left": "\u202eفيلم جيد\u202c",
    "special tokens": "[CLS] [SEP] [PAD] [MASK] </s>",
    "markup": "<script>alert(1)</script>",
    "a lone line separator": "good\u2028fun\x85",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_have_an_answer(kind, single_export, world):
    """The torch model's own, in a batch with others."""
    texts = ["a film", HOSTILE[kind], "good fun for the whole family"]
    export = Predictor(single_export, int8=False)
    found = export.predict(texts)
    assert [one["text"] for one in found] == texts
    wanted = predict(world.teacher, texts=texts)
    assert [one["probability"] for one in found] == pytest.approx([one["probability"] for one in wanted], abs=1e-4)
    assert export.predict([HOSTILE[kind]])[0]["probability"] == pytest.approx(found[1]["probability"], abs=1e-4)


def test_texts_without_a_token(build, tmp_path):
    """A model whose tokenizer puts nothing around a text sees an empty row, alone and beside others."""
    from datasets import Dataset

    from understudy.exporting.folder import write_export
    from understudy.exporting.parity import expected
    from understudy.tasks.classification import Classification

    model = build("bilstm")
    rows = Dataset.from_dict({"text": ["a film", "good fun"], "label": [0, 1]})
    write_export(model, tmp_path / "out", expected(model, rows), Classification(), precisions=("float32",))
    export = Predictor(tmp_path / "out")
    found = export.logits(["\0", "a film"])
    np.testing.assert_allclose(export.logits(["\0"])[0], found[0], atol=1e-5)
    assert np.isfinite(found).all()


BAD = {
    "empty": (["a film", ""], None, "row 2: text is empty"),
    "blank": ([" \t\n"], None, "row 1: text is empty"),
    "no text": ([None], None, "row 1: text must be text, got None"),
    "a number": (["a film", 3], None, "row 2: text must be text, got 3"),
    "bytes": ([b"a film"], None, "row 1: text must be text"),
    "one text": ("a film", None, "give a list"),
    "half a character": (["a film", "caf\udce9"], None, "row 2: not UTF-8: character 4"),
    "a pair": (["a film"], ["fun"], "reads one text, but a second one is given"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_text_is_refused(case, single_export):
    texts, pairs, message = BAD[case]
    with pytest.raises(DataError, match=message):
        Predictor(single_export).predict(texts, pairs)


def test_pairs_that_do_not_fit(pair_export):
    export = Predictor(pair_export)
    for texts, pairs, message in (
        (["a film"], None, "only one is given"),
        (["a film"], ["fun", "fun"], "1 texts but 2 second texts"),
        (["a film"], [""], "row 1: text_pair is empty"),
        (["a film"], [None], "row 1: text_pair must be text"),
    ):
        with pytest.raises(DataError, match=message):
            export.predict(texts, pairs)
    with pytest.raises(DataError, match="row 2: text_pair must be text"):
        list(export.stream([("a film", "fun"), ("a film", None)]))


# --- folders that are no exports


@pytest.fixture
def copy(single_export, tmp_path) -> Path:
    return shutil.copytree(single_export, tmp_path / "export")


def break_description(copy: Path, **changes) -> None:
    about = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps(about | changes))


FOLDERS = {
    "not there": (shutil.rmtree, "no such folder.*an export is needed"),
    "no description": (lambda copy: (copy / "export.json").unlink(), "it has no export.json"),
    "not JSON": (lambda copy: (copy / "export.json").write_text("{"), "export.json: damaged"),
    "a list": (lambda copy: (copy / "export.json").write_text("[1]"), "export.json: damaged"),
    "binary": (lambda copy: (copy / "export.json").write_bytes(b"\xff\xfe\x00"), "export.json: damaged"),
    "nothing in it": (lambda copy: (copy / "export.json").write_text('{"format": 1}'), "task, labels, .* missing"),
    "newer": (lambda copy: break_description(copy, format=2, understudy="9.0"), r"format 2, of a newer understudy \(9.0\)"),
    "no tokenizer": (lambda copy: (copy / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "broken tokenizer": (lambda copy: (copy / "tokenizer.json").write_text("{}"), "tokenizer.json: damaged"),
    "no model": (lambda copy: (copy / "model.int8.onnx").unlink(), "model.int8.onnx is missing"),
    "broken model": (lambda copy: (copy / "model.int8.onnx").write_bytes(b"nothing"), "model.int8.onnx: damaged"),
    "half a model": (lambda copy: (copy / "model.int8.onnx").write_bytes((copy / "model.int8.onnx").read_bytes()[:5000]), "damaged"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_export(case, copy):
    harm, message = FOLDERS[case]
    harm(copy)
    with pytest.raises(ModelError, match=message):
        Predictor(copy)


def test_a_model_that_was_not_exported_yet(world):
    with pytest.raises(ModelError, match="not exported yet: understudy export"):
        Predictor(world.teacher)


# --- the command


@pytest.fixture
def standard_input(monkeypatch, tmp_path):
    def give(content: bytes) -> None:
        (tmp_path / "stdin").write_bytes(content)
        monkeypatch.setattr(sys, "stdin", (tmp_path / "stdin").open("r", errors="surrogateescape"))

    return give


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("of", ["export", "model"])
def test_the_command_takes_texts_files_and_standard_input(of, single_export, world, tmp_path, understudy, standard_input):
    model = single_export if of == "export" else world.teacher
    said = understudy("predict", model, "a dull film", "good fun")
    assert [line.split("\t")[1] for line in said.out.splitlines()] == ["a dull film", "good fun"]
    from_texts = understudy("predict", model, "a dull film", "good fun", "--json").json["predictions"]
    standard_input(b"a dull film\n\ngood fun\n")
    from_lines = lines(understudy("predict", model).out)
    standard_input(b'{"text": "a dull film", "more": 1}\n{"text": "good fun"}\n')
    from_rows = lines(understudy("predict", model).out)
    assert from_texts == from_lines == from_rows and len(from_rows) == 2

    to_stdout = understudy("predict", model, "--input", world.test)
    said = understudy("predict", model, "--input", world.test, "--output", tmp_path / "out" / "said.jsonl")
    assert said.out == "" and "30 predictions in" in said.err
    assert (tmp_path / "out" / "said.jsonl").read_text() == to_stdout.out
    assert [one["text"] for one in lines(to_stdout.out)] == [row["text"] for row in lines(Path(world.test).read_text())]


def test_pairs_by_the_command(pair_export, pair_world, understudy, standard_input):
    said = understudy("predict", pair_export, "a film", "--pair", "good fun", "--json")
    assert said.json["predictions"][0]["text_pair"] == "good fun"
    assert len(lines(understudy("predict", pair_export, "--input", pair_world.test).out)) == 30
    standard_input(b'{"text": "a film", "text_pair": "good fun"}\n')
    assert lines(understudy("predict", pair_export).out) == said.json["predictions"]
    standard_input(b'{"text": "a film", "text_pair": "good fun"}\n')
    assert lines(understudy("predict", pair_world.teacher).out)[0]["text_pair"] == "good fun"


def test_precision_and_threads(single_export, world, understudy):
    eight = understudy("predict", single_export, "a film", "--json").json
    full = understudy("predict", single_export, "a film", "--precision", "float32", "--threads", "1", "--json").json
    assert eight != full
    for words, message in (
        ([single_export, "a film", "--precision", "int4"], "allowed are int8 and float32"),
        ([single_export, "a film", "--device", "cuda"], "run on the CPU"),
        ([world.teacher, "a film", "--threads", "1"], "is not one"),
    ):
        said = understudy("predict", *words)
        assert said.code == 2 and message in said.err


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json"])
def test_one_row_never_ends_a_command_of_many(single_export, world, tmp_path, understudy, ending):
    """An empty or odd row has an error in its place; all others are answered, in their order."""
    texts = ["", "a film", " \t", "fun", "no plot", ""] * 700 + ["the last"]
    odd = {".jsonl": [None, 3, ["a"], "\ud800"], ".json": [None]}.get(ending, [])
    rows = [{"id": number, "text": text} for number, text in enumerate([*odd, *texts])]
    path = tmp_path / f"rows{ending}"
    if ending == ".csv":
        path.write_text("id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows))
    else:
        path.write_text(json.dumps(rows) if ending == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    for model in (single_export, world.teacher):
        output = tmp_path / f"{Path(model).name}.jsonl"
        said = understudy("predict", model, "--input", path, "--keep-columns", "--output", output)
        answers = [json.loads(line) for line in output.read_text().splitlines()]
        assert said.code == 0 and [one["id"] for one in answers] == (
            [str(row["id"]) for row in rows] if ending == ".csv" else list(range(len(rows)))
        )
        good = [isinstance(row["text"], str) and row["text"].strip() not in ("", "\ud800") for row in rows]
        assert [("label" in one, "error" in one) for one in answers] == [(one, not one) for one in good]
        assert f"{good.count(False):,} of {len(rows):,} rows have no prediction" in said.err and "the first is row 1: text" in said.err
        table = tmp_path / f"{Path(model).name}.csv"
        assert understudy("predict", model, "--input", path, "--output", table).code == 0
        with table.open(newline="") as file:
            assert [bool(one["label"]) for one in csv.DictReader(file)] == good
    path.write_text("text\n \n \n" if ending == ".csv" else '[{"text": ""}]' if ending == ".json" else '{"text": ""}\n')
    said = understudy("predict", single_export, "--input", path)
    assert said.code == 2 and "rows can be predicted; row 1: text is empty" in said.err


def test_rows_without_a_label_are_left_out_of_measuring(world, tmp_path, understudy, quick):
    rows = [json.loads(line) for line in Path(world.test).read_text().splitlines()]
    part = tmp_path / "part.jsonl"
    part.write_text("".join(json.dumps(row | ({"label": None} if number < 3 else {})) + "\n" for number, row in enumerate(rows)))
    said = understudy("evaluate", world.teacher, "--data", part, "--json")
    assert said.code == 0 and said.json["data"]["test"]["rows"] == len(rows) - 3
    assert f"3 of {len(rows)} rows have no label and are left out" in said.err
    part.write_text("".join(json.dumps(row | {"label": None}) + "\n" for row in rows))
    said = understudy("evaluate", world.teacher, "--data", part)
    assert said.code == 2 and "no row has a label" in said.err


def test_trouble_by_the_command(single_export, tmp_path, understudy, standard_input, monkeypatch):
    bad = tmp_path / "bad.csv"
    bad.write_text("text\na film\nfun,more\n")
    said = understudy("predict", single_export, "--input", bad, "--output", tmp_path / "said.jsonl")
    assert said.code == 2 and f"{bad}: line 3: 2 fields, but the header has 1" in said.err
    assert [path.name for path in tmp_path.glob("*said*")] == [] and [path.name for path in tmp_path.glob(".*")] == []
    standard_input(b"a film\ncaf\xe9\n")
    said = understudy("predict", single_export)
    assert said.code == 2 and "standard input: line 2: not UTF-8 (byte 0xe9 at" in said.err
    standard_input(b"\n")
    said = understudy("predict", single_export)
    assert said.code == 2 and "standard input: no rows to predict" in said.err
    said = understudy("predict", single_export, "caf\udce9")
    assert said.code == 2 and "not UTF-8" in said.err
    said = understudy("predict", single_export, "a film", "--input", bad)
    assert said.code == 2 and "got both" in said.err
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    said = understudy("predict", single_export)
    assert said.code == 2 and "or text on standard input; got neither" in said.err


def test_a_full_disk_leaves_no_half_file(single_export, tmp_path, understudy, monkeypatch, world):
    (tmp_path / "said.jsonl").write_text("before")

    def full(answer):
        raise OSError(28, "No space left on device", "said.jsonl")

    monkeypatch.setattr("understudy.programs.predict.line_writer", lambda file: full)
    output = ["--output", tmp_path / "said.jsonl", "--overwrite"]
    said = understudy("predict", single_export, "--input", world.test, *output)
    assert said.code == 1 and "No space left on device. Make room" in said.err and "run the command again" in said.err
    assert (tmp_path / "said.jsonl").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


# --- what comes out


@pytest.fixture(scope="module")
def messages(tmp_path_factory) -> Path:
    """A file as a company has it: an id, other names, a label of its own."""
    path = tmp_path_factory.mktemp("messages") / "messages.csv"
    path.write_text('id,message,label\n7,"good, fun",x\n8,a dull film,\n')
    return path


@pytest.mark.parametrize("of", ["export", "model"])
@pytest.mark.parametrize("name", ["out.csv", "out.tsv.gz", "out.CSV", "out.jsonl", "out.jsonl.gz"])
def test_the_output_is_written_as_its_name_says(of, name, single_export, world, messages, tmp_path, understudy):
    import pandas

    model = single_export if of == "export" else world.teacher
    words = ["predict", model, "--input", messages, "--column", "text=message", "--output", tmp_path / name]
    said = understudy(*words, "--keep-columns")
    assert (said.code, said.out) == (0, ""), said.err
    given = {"sep": "\t"} if ".tsv" in name else {}
    kept = pandas.read_json(tmp_path / name, lines=True) if "jsonl" in name else pandas.read_csv(tmp_path / name, **given)
    more = ["probabilities"] if "jsonl" in name else []
    assert list(kept) == ["id", "message", "label", "predicted_label", "probability", *more]
    assert list(kept["id"]) == [7, 8] and list(kept["message"]) == ["good, fun", "a dull film"]
    assert set(kept["predicted_label"]) <= set(LABELS) and kept["probability"].between(0.5, 1).all()

    said = understudy(*words)
    assert said.code == 2 and "exists already; replace it with --overwrite" in said.err
    assert understudy(*words, "--overwrite").code == 0
    plain = pandas.read_json(tmp_path / name, lines=True) if "jsonl" in name else pandas.read_csv(tmp_path / name, **given)
    assert list(plain) == ["text", "label", "probability", *more]
    assert list(plain["label"]) == list(kept["predicted_label"])


def test_outputs_that_cannot_be_written(single_export, world, tmp_path, understudy):
    (tmp_path / "there").mkdir()
    (tmp_path / "there.csv").mkdir()
    for name, message in (("out.xlsx", "name it *.jsonl, *.csv, *.tsv"), ("there", "name it"), ("there.csv", "is a folder")):
        said = understudy("predict", single_export, "--input", world.test, "--output", tmp_path / name)
        assert said.code == 2 and message in said.err
    uneven = tmp_path / "uneven.jsonl"
    uneven.write_text('{"text": "a"}\n{"text": "b", "more": 1}\n')
    words = ["predict", single_export, "--input", uneven, "--keep-columns", "--output"]
    said = understudy(*words, tmp_path / "out.csv")
    assert said.code == 2 and "a column 'more', which the first row lacks" in said.err
    assert not (tmp_path / "out.csv").exists()
    assert understudy(*words, tmp_path / "out.jsonl").code == 0


@pytest.mark.parametrize("of", ["export", "model"])
def test_a_table_on_standard_input(of, single_export, world, messages, understudy, standard_input):
    """Its header is no text, and its texts are those of the column."""
    model = single_export if of == "export" else world.teacher
    standard_input(messages.read_bytes())
    said = understudy("predict", model, "--column", "text=message", "--keep-columns")
    assert [(one["id"], one["message"]) for one in lines(said.out)] == [("7", "good, fun"), ("8", "a dull film")]
    standard_input(messages.read_bytes())
    said = understudy("predict", model)
    assert (said.code, said.out) == (2, "") and "--column text=NAME" in said.err


@pytest.mark.parametrize("of", ["export", "model"])
def test_a_text_that_is_a_file_is_noticed(of, single_export, world, understudy):
    model = single_export if of == "export" else world.teacher
    said = understudy("predict", model, world.test, "a film")
    assert said.code == 0 and f"--input {world.test}" in said.err and said.err.count("Note:") == 1
    assert "Note:" not in understudy("predict", model, "a film", "x" * 5000).err


def test_both_texts_of_a_pair_are_shown_and_one_alone_is_refused(pair_export, build, tmp_path, understudy):
    build("bilstm", pair=True).save(tmp_path / "student")
    for model in (pair_export, tmp_path / "student"):
        said = understudy("predict", model, "a film", "--pair", "good fun")
        assert said.out.rstrip("\n").split("\t")[1:] == ["a film", "good fun"]
        said = understudy("predict", model, "a film")
        assert said.code == 2 and "give the second one too: --pair TEXT" in said.err
    build("bilstm").save(tmp_path / "single")
    said = understudy("predict", tmp_path / "single", "a film", "--pair", "good fun")
    assert said.code == 2 and "reads one text, but a second one is given" in said.err


@pytest.fixture
def run_folder(single_export, world, tmp_path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(single_export, folder / "export")
    shutil.copytree(world.teacher, folder / "student")
    (folder / "recipe.yaml").write_text("name: x\n")
    return folder


def test_a_run_folder_stands_for_its_model(run_folder, world, understudy, quick):
    said = understudy("predict", run_folder, "a film", "--precision", "float32")
    assert said.code == 0 and f"taking its export, {run_folder / 'export'}" in said.err
    shutil.rmtree(run_folder / "export")
    again = understudy("predict", run_folder, "a film")
    assert again.out == said.out and f"taking its student, {run_folder / 'student'}" in again.err
    said = understudy("evaluate", run_folder, "--data", world.test, "--json")
    assert said.code == 0 and said.json["model"] == str(run_folder / "student")
    run_folder.rename(run_folder.parent / "best")  # as in a search
    (run_folder.parent / "recipe.yaml").write_text("budget: {}\n")
    assert understudy("predict", run_folder.parent, "a film").out == again.out


def test_a_run_without_a_model(tmp_path, understudy):
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    for words in (["predict", tmp_path, "a"], ["evaluate", tmp_path, "--data", "rows.csv"]):
        said = understudy(*words)
        assert said.code == 2 and "a run without a student yet" in said.err
    (tmp_path / "recipe.yaml").write_text("tasks: [{name: mood}, {name: topic}]\n")
    assert f"give the folder of one: {tmp_path / 'mood'} or" in understudy("predict", tmp_path, "a").err
    file = tmp_path / "rows.csv"
    file.write_text("text\na\n")
    assert "is a file; the folder of a model is needed" in understudy("predict", file, "a").err


def test_an_export_is_evaluated_as_a_model_is(single_export, world, understudy, quick):
    said = understudy("evaluate", single_export, "--teacher", world.teacher, "--data", world.test, "--json")
    assert said.code == 0, said.err
    student = said.json["models"]["student"]
    assert student["quality"]["accuracy"]["value"] > 0.9 and student["rows_per_second"] > 0
    assert said.json["agreement_with_teacher"] > 0.9
    assert understudy("evaluate", single_export, "--data", world.test, "--max-length", "8").code == 2


@given(st.integers(2, 300), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_law_six_digits_keep_sum_order_and_value(classes, seed):
    values = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3)).tolist()
    shown = six_digits(values)
    assert sum(shown) == pytest.approx(1, abs=1e-5) and shown == pytest.approx(values, rel=5.1e-6)
    assert (np.diff(np.array(shown)[np.argsort(values)]) >= 0).all()
    assert all(len(f"{one!r}".partition("e")[0].replace(".", "").strip("0")) <= 6 for one in shown)


@pytest.mark.parametrize("of", ["export", "model"])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_predictions_have_six_digits_in_every_format(of, name, single_export, world, messages, tmp_path, understudy):
    model = single_export if of == "export" else world.teacher
    said = understudy("predict", model, "--input", messages, "--column", "text=message", "--output", tmp_path / name)
    assert said.code == 0, said.err
    text = (tmp_path / name).read_text("utf-8")
    if name == "out.csv":
        numbers = [line["probability"] for line in csv.DictReader(text.splitlines())]
    else:
        rows = list(map(json.loads, text.splitlines()))
        assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in rows)
        assert all(row["probability"] == row["probabilities"][row["label"]] for row in rows)
        numbers = [repr(one) for row in rows for one in row["probabilities"].values()]
    assert numbers and all(len(one.partition("e")[0].lstrip("0.")) <= 6 for one in numbers)
