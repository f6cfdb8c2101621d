"""What many tests start from: tiny models, tiny rows in files, and the command line in this process."""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny matrices only lose by more threads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
# As the command sets them before it imports transformers; here it is imported long before any command runs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pytest
import torch
from accelerate.utils import memory
from filelock import FileLock

from tiny import LABELS, SECOND_TEXTS, TEXTS, speed_in_a_blink, tiny_rows, tiny_teacher, trained_teacher, write_rows
from understudy import parts
from understudy.evaluation import measure
from understudy.exporting import folder as export_folder
from understudy.models.text_model import TextModel
from understudy.programs.export import export
from understudy.students import Blueprint
from understudy.training import length

LEAST_UPDATES = length.least_updates
# Hundreds of updates on a few tiny rows would take the suite an hour: trainings end with their epochs, except where a test is marked.
length.least_updates = lambda settings: 0
# After each training accelerate walks over the million objects of all that was imported: longer than the training itself.
memory.gc = SimpleNamespace(collect=lambda: 0)


def pytest_collection_finish():
    """Nor need the collections that Python makes by itself look at what was imported."""
    gc.collect()
    gc.freeze()


def made_once(tmp_path_factory, name: str, make: Callable[[Path], Any]) -> Path:
    """A folder that one process makes and all that run tests read."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(autouse=True)
def _full_length(request, monkeypatch):
    if request.node.get_closest_marker("full_length") is not None:
        monkeypatch.setattr(length, "least_updates", LEAST_UPDATES)


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """Every row that is sent to a teacher model, by its identity."""
    from understudy.teachers.teacher import ModelTeacher

    rows_sent, whole = [], ModelTeacher.logits

    def logits(self, rows, *, device):
        rows_sent.extend(rows["identity"])
        return whole(self, rows, device=device)

    monkeypatch.setattr(ModelTeacher, "logits", logits)
    return rows_sent


@pytest.fixture
def teacher() -> TextModel:
    return tiny_teacher()


@pytest.fixture
def build(tmp_path: Path):
    """Builds a student of a kind from a tiny teacher; settings that a kind cannot do without are filled in."""

    def build(kind: str, *, label_names=LABELS, pair=False, seed=0, **settings) -> TextModel:
        teacher = tiny_teacher(label_names=label_names)
        if kind == "pretrained":
            teacher.save(tmp_path / "pretrained")
            settings.setdefault("model", str(tmp_path / "pretrained"))
        blueprint = Blueprint(TEXTS + SECOND_TEXTS, label_names, pair=pair, max_length=32, seed=seed, teacher=teacher)
        checked = parts.settings_of(parts.part("students", kind))(**settings)
        made = parts.part("students", kind)(**{name: getattr(checked, name) for name in type(checked).model_fields})
        return made.build(blueprint)

    return build


@dataclass(frozen=True)
class World:
    """Files of a tiny task, and a teacher that knows it."""

    folder: Path
    teacher: str
    train: str
    validation: str
    test: str
    transfer: str

    @property
    def data(self) -> list[str]:
        """As options."""
        return ["--train", self.train, "--validation", self.validation, "--test", self.test]

    def distill(self, recipe: str, out: Path, *words: Any) -> list[Any]:
        """The command that distils the teacher into `out`; without exports, which take seconds each: `--set export=` brings them."""
        return ["distill", recipe, "--teacher", self.teacher, *self.data, "--no-export", "--out", out, *words]

    @property
    def keys(self) -> dict[str, Any]:
        """As overrides of a recipe."""
        return {
            "data.train": self.train,
            "data.validation": self.validation,
            "data.test": self.test,
            "teacher.models": [self.teacher],
            "export": [],
        }


def make_world(folder: Path, **kind: bool) -> None:
    rows = tiny_rows(160, **kind)
    unlabelled = [{name: row[name] for name in row if name != "label"} for row in rows[120:]]
    trained_teacher(rows).save(folder / "teacher")
    for name, taken in {"train": rows[:60], "validation": rows[60:90], "test": rows[90:120]}.items():
        write_rows(folder / f"{name}.jsonl", taken)
    write_rows(folder / "transfer.jsonl", unlabelled)


def world_of(tmp_path_factory, name: str, **kind: bool) -> World:
    folder = made_once(tmp_path_factory, name, lambda folder: make_world(folder, **kind))
    files = (str(folder / f"{split}.jsonl") for split in ("train", "validation", "test", "transfer"))
    return World(folder, str(folder / "teacher"), *files)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return world_of(tmp_path_factory, "world")


@pytest.fixture(scope="session")
def pair_world(tmp_path_factory) -> World:
    return world_of(tmp_path_factory, "pairs", pair=True)


@pytest.fixture(scope="session")
def number_world(tmp_path_factory) -> World:
    return world_of(tmp_path_factory, "numbers", pair=True, number=True)


def exported(tmp_path_factory, world: World) -> Path:
    """The world's teacher as an export, both precisions."""

    def make(folder: Path) -> None:
        export(world.teacher, folder / "export", int8=True, data=world.validation, allow_loss=True)

    return made_once(tmp_path_factory, f"{world.folder.name} exported", make) / "export"


@pytest.fixture(scope="session")
def single_export(tmp_path_factory, world) -> Path:
    return exported(tmp_path_factory, world)


@pytest.fixture(scope="session")
def pair_export(tmp_path_factory, pair_world) -> Path:
    return exported(tmp_path_factory, pair_world)


@pytest.fixture(scope="session")
def number_export(tmp_path_factory, number_world) -> Path:
    return exported(tmp_path_factory, number_world)


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("raw") / "text.txt"
    path.write_text("\n\n".join(f"{text} {more}" for text in TEXTS for more in TEXTS) + "\n", "utf-8")
    return str(path)


@pytest.fixture(scope="session")
def pretrained(world, tmp_path_factory) -> str:
    """A masked language model of random weights, of the teacher's shape."""
    folder = tmp_path_factory.mktemp("pretrained")
    from understudy.training.masked_lm import with_head

    with_head(TextModel.load(world.teacher), 0).save(folder / "model")
    return str(folder / "model")


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def understudy(monkeypatch, capsys):
    """The command `understudy`, run in this process: importing torch anew takes seconds."""
    from understudy import cli

    def run(*words: Any) -> Said:
        monkeypatch.setattr(sys, "argv", ["understudy", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test but those of the clock itself asks how fast."""
    monkeypatch.setattr(measure, "measure_all", speed_in_a_blink)


WRITE_GRAPH = export_folder.write_graph
KEPT: dict[tuple, bytes] = {}


def write_graph(model: TextModel, path: Path, *, pair: bool, fused: bool = False) -> None:
    """A copy, where the same model was written before: torch takes seconds for each."""
    said = model.fingerprint
    key = (said["weights"], said["config"], *said["inputs"], model.max_length, pair, fused)
    if key not in KEPT:
        WRITE_GRAPH(model, path, pair=pair, fused=fused)
        KEPT[key] = path.read_bytes()
    path.write_bytes(KEPT[key])


@pytest.fixture
def kept_graphs(monkeypatch):
    """For tests of what becomes of a graph."""
    monkeypatch.setattr(export_folder, "write_graph", write_graph)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system lets no file grow beyond so many bytes, as if the disk were full."""
    limits, reaction = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, reaction)


def child(*words: Any, **settings: Any) -> subprocess.Popen[str]:
    """A command in a process of its own, in its own group: `python -m understudy …`."""
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


torch.set_num_threads(1)
