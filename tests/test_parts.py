"""The folder is the list; a file of one's own is as good as ours; settings are checked against the signature."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from understudy import parts
from understudy.augmenters import Augmenter
from understudy.errors import RecipeError, UserError
from understudy.objectives import Objective
from understudy.objectives.soft_targets import SoftTargets
from understudy.students import Student
from understudy.tasks import Task

BASES = {"augmenters": Augmenter, "objectives": Objective, "students": Student, "tasks": Task}


@pytest.mark.parametrize("folder", parts.FOLDERS)
def test_every_kind_is_found_and_described(folder):
    found = parts.kinds(folder)
    assert found
    for kind, line in found.items():
        cls = parts.part(folder, kind)
        assert issubclass(cls, BASES[folder]) and cls.__name__.lower() == kind.replace("_", "")
        assert line.endswith("."), f"{kind} says in its first line what it is"
        parts.settings_of(cls)


def test_a_new_file_is_a_new_kind(tmp_path, monkeypatch):
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "no_loss.py").write_text('class NoLoss(Objective):\n    """Nothing. At all."""\n')
    (tmp_path / "objectives" / "base.py").write_text("class Base:\n    pass\n")
    (tmp_path / "objectives" / "_own.py").write_text("import not_there\n\nclass Helper(NoLoss):\n    pass\n")
    monkeypatch.setattr(parts, "_HERE", tmp_path)
    assert parts.kinds("objectives") == {"no_loss": "Nothing. At all."}


def test_listing_imports_no_torch():
    code = "import sys; from understudy import parts; parts.kinds('students'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("folder", "kind", "message"),
    [
        ("objectives", "soft_target", "objective 'soft_target' is unknown.*Did you mean 'soft_targets'"),
        ("students", "bi_lstm", "student 'bi_lstm' is unknown.*Did you mean 'bilstm'"),
        ("tasks", "zzz", r"task 'zzz' is unknown; known are classification, multilabel, similarity\.$"),
    ],
)
def test_unknown_kinds(folder, kind, message):
    with pytest.raises(RecipeError, match=message):
        parts.part(folder, kind)


MINE = '''
from understudy.objectives import Objective

class HalfLogits(Objective):
    """Pulls logits to half of the teacher's."""

    def __init__(self, *, power: float = 2.0, halves: bool = True) -> None:
        super().__init__()
        self.power, self.halves = power, halves

    def forward(self, student, teacher, batch):
        return (student.logits - teacher.logits / 2).abs().pow(self.power).mean()

NUMBER = 3
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py"


def test_a_class_in_a_file_of_ones_own(mine):
    cls = parts.part("objectives", f"{mine}:HalfLogits")
    assert issubclass(cls, Objective) and cls(power=3.0).power == 3.0
    assert parts.part("objectives", f"{mine}:HalfLogits") is cls
    assert list(parts.settings_of(cls).model_fields) == ["power", "halves"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{file}:Missing", "has no class Missing"),
        ("{file}:NUMBER", "has no class NUMBER"),
        ("{folder}/nowhere.py:HalfLogits", "no Python file .*nowhere.py; write it as ./mine.py:MyClass"),
        ("{folder}:HalfLogits", "no Python file"),
        ("HalfLogits:", "no Python file"),
        ("{folder}/broken.py:HalfLogits", "broken.py cannot be imported: SyntaxError.*line 1"),
        ("{folder}/needs.py:HalfLogits", "needs.py cannot be imported: .*No module named 'not_there'"),
        ("{folder}/other.py:Other", "Other is not a subclass of understudy.objectives.Objective"),
    ],
)
def test_files_of_ones_own_that_cannot_be_used(mine, tmp_path, written, message):
    (tmp_path / "broken.py").write_text("class HalfLogits(:\n")
    (tmp_path / "needs.py").write_text("import not_there\n")
    (tmp_path / "other.py").write_text("class Other:\n    pass\n")
    with pytest.raises(UserError, match=message):
        parts.part("objectives", written.format(file=mine, folder=tmp_path))


def test_settings_come_from_the_signature():
    model = parts.settings_of(SoftTargets)
    assert model().temperature == 2.0 and model(temperature=3).temperature == 3.0
    with pytest.raises(ValidationError):
        model(temperature="warm")
    with pytest.raises(ValidationError):
        model(temprature=2.0)
