"""One process is two: the same updates from `accelerate launch`, in a script of one's own and from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from two_processes import train_by_sgd, train_inside, train_on_two_tasks

SMALL = ["--student", "bilstm"]
for setting in (
    "student.hidden=8",
    "student.embedding=8",
    "student.feature=8",
    "student.dropout=0.0",
    "stages.0.train.max_steps=7",
    "stages.0.train.precision=float32",
):
    SMALL += ["--set", setting]


def losses(run: Path, name: str) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["model"] == name and "loss" in line]


def test_two_processes_are_one(world, tmp_path, understudy, quick):
    here = Path(__file__)
    words = world.distill("hinton", tmp_path / "two", *SMALL, "--set", "stages.0.train.batch_size=4", "--json")
    # `--multi_gpu` is accelerate's word for several processes; with its `--cpu` there would be one.
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    launch = [sys.executable, *launch.split(), here.with_name("two_processes.py"), tmp_path / "sgd2"]
    path = os.pathsep.join([str(here.parent.parent), *sys.path])
    words = [str(word) for word in [*launch, *words, "--device", "cpu"]]
    environment = os.environ | {"PYTHONPATH": path}
    said = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert said.returncode == 0, said.stderr[-3000:]
    assert json.loads(said.stdout.splitlines()[-1])["recipe"] == "hinton", "the result is told once, by one process"

    assert (tmp_path / "sgd2-order").read_text() == "main helper ", "the helper did not wait"

    # A script of one's own, with steps that show every weight.
    train_by_sgd(str(tmp_path / "sgd1"), batch_size=8)
    train_inside(str(tmp_path / "sgd1-inside"), batch_size=8)
    for name, student in train_on_two_tasks(str(tmp_path / "sgd1-tasks"), batch_size=8).items():
        student.save(tmp_path / f"sgd1-{name}")
    for kind in ("", "-inside", "-mood", "-count"):
        one, two = (load_file(tmp_path / f"{name}{kind}" / "model.safetensors") for name in ("sgd1", "sgd2"))
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=2e-6, rtol=0)

    logged = [losses(tmp_path / f"{name}-tasks", "student") for name in ("sgd1", "sgd2")]
    assert len(logged[0]) == 14
    np.testing.assert_allclose(*logged, rtol=1e-4)

    # The command: Adam magnifies the last digit of a gradient near zero, so it is the losses that are compared.
    assert understudy(*world.distill("hinton", tmp_path / "one", *SMALL, "--set", "stages.0.train.batch_size=8")).code == 0
    for name in ("student", "student_alone"):
        found, expected = losses(tmp_path / "two", name), losses(tmp_path / "one", name)
        assert len(found) == len(expected) == 7, "both processes wrote"
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    facts = [json.loads((tmp_path / name / "facts.json").read_text()) for name in ("one", "two")]
    for name in ("teacher", "student", "student_alone"):
        assert facts[0]["models"][name]["quality"] == facts[1]["models"][name]["quality"]


def test_the_script_would_notice(tmp_path):
    """Fewer rows in an update, and the weights are others."""
    one, half = train_by_sgd(str(tmp_path / "1"), batch_size=8), train_by_sgd(str(tmp_path / "2"), batch_size=4)
    split = train_by_sgd(str(tmp_path / "3"), batch_size=4, accumulation=2)
    weights = [trainer.model.classifier.weight for trainer in (one, half, split)]
    torch.testing.assert_close(weights[0], weights[2], atol=2e-6, rtol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=0)
