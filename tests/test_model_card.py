"""Every saved model says in its README.md how it is loaded, and what it says works in a process that knows nothing else."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tiny import LABELS, tiny_teacher
from understudy import parts
from understudy.exporting.model_card import write_model_card
from understudy.models.text_model import TextModel
from understudy.training.masked_lm import with_head

OWN = {"bilstm", "static_embeddings"}  # the docs name these
UNKNOWN = "does not recognize this architecture"


def saved(model: TextModel, folder: Path) -> None:
    model.save(folder)
    write_model_card(model, folder)


def snippet(folder: Path) -> str:
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)[1]


def fresh(code: str, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=check)


def test_which_kinds_need_the_package(build, tmp_path):
    """Those that the docs name and no others; the other kinds' snippets run with `transformers` alone, one after the other."""
    need, code = set(), ["import os, sys"]
    for kind in sorted(parts.kinds("students")):
        saved(build(kind), tmp_path / kind)
        if "import understudy.students.register" in snippet(tmp_path / kind):
            need.add(kind)
        else:
            code += [f"os.chdir({str(tmp_path / kind)!r})", snippet(tmp_path / kind)]
    saved(tiny_teacher(label_names=None), tmp_path / "number")
    saved(with_head(tiny_teacher(), 0, None), tmp_path / "masked")
    for name in ("number", "masked"):
        code += [f"os.chdir({str(tmp_path / name)!r})", snippet(tmp_path / name)]
    assert need == OWN
    said = fresh("\n".join([*code, "assert 'understudy' not in sys.modules"]), tmp_path).stdout.splitlines()
    assert len(said) == len(parts.kinds("students")) - len(OWN) + 2
    assert all(any(label in line for label in LABELS) for line in said[:-2])
    assert "token_str" in said[-1] and "score" in said[-2]


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_own_kinds_load_with_their_line_and_fail_without_it(build, tmp_path, pair):
    code = ["import os"]
    for kind in sorted(OWN):
        saved(build(kind, pair=pair), tmp_path / kind)
        assert ("text_pair" in snippet(tmp_path / kind)) == pair
        without = snippet(tmp_path / kind).partition("\n")[2]
        code += [
            f"os.chdir({str(tmp_path / kind)!r})",
            "try:",
            *(f"    {line}" for line in without.splitlines()),
            "except ValueError as error:",
            "    print(error)",
            "else:",
            "    raise SystemExit('loads without the line')",
        ]
    code += [line for kind in sorted(OWN) for line in (f"os.chdir({str(tmp_path / kind)!r})", snippet(tmp_path / kind))]
    said = fresh("\n".join(code), tmp_path).stdout
    assert said.count(UNKNOWN) == len(OWN)
    assert all(UNKNOWN in (tmp_path / kind / "README.md").read_text("utf-8") for kind in OWN)
    assert sum(any(label in line for label in LABELS) for line in said.splitlines()) == len(OWN)


def test_the_card_of_a_run_has_figures_and_a_header(world, tmp_path, understudy):
    run = tmp_path / "run"
    small = [word for name in ("hidden", "embedding", "feature") for word in ("--set", f"student.{name}=8")]
    said = understudy(*world.distill("hinton", run, "--no-export", "--student", "bilstm", "--set", "stages.0.train.max_steps=2", *small))
    assert said.code == 0, said.err
    for name in ("student", "student_alone"):
        card = ModelCard.load(run / name / "README.md")
        assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-classification"
        assert ("knowledge-distillation" in card.data.tags) == (name == "student")
        assert {result.metric_name for result in card.data.eval_results} >= {"accuracy", "macro_f1"}
        assert f"# {name} of run" in card.text and "Recipe `hinton`" in card.text and "train rows" in card.text
        assert ("Distilled from teacher" in card.text) == (name == "student")
        assert str(world.folder) not in card.content
    assert TextModel.load(run / "student").label_names == LABELS
