"""One student with one encoder and a head for each of several tasks: the module, its batches, its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from understudy.data.examples import Batch, Examples, LengthBuckets
from understudy.errors import ModelError
from understudy.machine import find_device, process_count
from understudy.models.text_model import TextModel
from understudy.objectives import Objective
from understudy.settings.stage import TrainSettings
from understudy.tasks import Task
from understudy.training.trainer import DistillationTrainer, Length, asked_of, length_of, names_of, prepare_objectives
from understudy.training.training import (
    Progress,
    Trained,
    arguments_for,
    callbacks_for,
    freeze,
    precision_for,
    reuse_memory,
    run,
)

TASK = "task"  # the model's input that names the task
MEAN = "mean"  # of the tasks' own metrics on validation rows: what selects


class MultitaskModel(nn.Module):
    """Several classifiers (or regressors) of one family that hold the same encoder; it trains as one.

    The encoder's weights are in it once, then each head's, so that checkpoints, optimizer and processes meet no weight twice.

    Args:
        models: task → its model; all hold the first one's `base_model`.

    Raises:
        ModelError: a model whose weights are not all in the shared encoder or in its head.
    """

    def __init__(self, models: Mapping[str, PreTrainedModel]) -> None:
        super().__init__()
        self.models = dict(models)  # a plain dictionary: registered, each would bring the encoder along again
        self.encoder = next(iter(models.values())).base_model
        self.heads = nn.ModuleList(
            nn.ModuleDict({name: part for name, part in model.named_children() if part is not self.encoder})
            for model in models.values()
        )
        own = {id(weight) for weight in self.parameters()}
        for task, model in models.items():
            if model.base_model is not self.encoder or not own >= {id(weight) for weight in model.parameters()}:
                raise ModelError(f"task {task}: its model does not consist of the shared encoder and a head")

    @property
    def base_model(self) -> nn.Module:
        """The encoder, as every model of `transformers` calls it."""
        return self.encoder

    def forward(self, task: str, **inputs: Tensor) -> Any:
        """What the model of one task says of a batch."""
        return self.models[task](**inputs)

    def train(self, mode: bool = True) -> MultitaskModel:
        """Into training or evaluation mode, the tasks' models too: some families ask themselves, not only their layers."""
        super().train(mode)
        for model in self.models.values():
            model.training = mode
        return self


def updates_in_epoch(rows: int, settings: TrainSettings) -> int:
    """Updates that show each row of a task once; with several processes, each update takes a batch from each."""
    assert settings.batch_size, "settings must be resolved"
    return math.ceil(rows / (settings.batch_size * settings.accumulation * process_count()))


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """So many updates shared out among tasks in proportion to their weights: at least one each, rounded by the largest remainders.

    >>> shared_out(20, [1.0, 8.0]), shared_out(10, [1.0, 1.0, 1.0])
    ([2, 18], [4, 3, 3])
    """
    exact = [total * weight / sum(weights) for weight in weights]
    found = [max(math.floor(one), 1) for one in exact]
    while (left := total - sum(found)) != 0:
        step = 1 if left > 0 else -1
        able = [place for place in range(len(found)) if step > 0 or found[place] > 1]
        found[max(able, key=lambda place: step * (exact[place] - found[place]))] += step
    return found


class MixedBatches(Sampler[tuple[str, list[int]]]):
    """Batches of one task each, as (task, row numbers), the tasks mixed: each epoch its own order, fixed by seed and epoch alone.

    An epoch has as many updates of each task as `shares` says, however many rows the task has: a control, which learns from fewer rows than
    its student, has the same tasks in the same order. A task goes through its rows in passes of its own, in length buckets, and goes on in
    the next epoch where the last one stopped. All batches of an update, of accumulation and of all processes, are of one task. With one
    task, and a share that shows each row once, the rows come as `LengthBuckets` gives them.

    Args:
        rows: task → its rows.
        batch_size: rows of an update.
        pieces: batches of an update: those accumulated, times the processes.
        shares: task → its updates in an epoch.
    """

    def __init__(
        self, rows: Mapping[str, Examples], batch_size: int, *, shares: Mapping[str, int], pieces: int = 1, seed: int = 0,
        bucketed: bool = True,
    ) -> None:  # fmt: skip
        self.batch_size, self.pieces, self.seed, self.epoch = batch_size, pieces, seed, 0
        self.passes = {
            task: LengthBuckets(own.lengths, batch_size, seed=seed, weights=own.sampling_weights, bucketed=bucketed)
            for task, own in rows.items()
        }
        self.whole = {task: math.ceil(len(own) / batch_size) for task, own in rows.items()}  # updates of a pass
        self.updates = {task: shares[task] for task in rows}  # of an epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.updates.values()) * self.pieces

    def __iter__(self) -> Iterator[tuple[str, list[int]]]:
        order = np.repeat(np.arange(len(self.updates)), list(self.updates.values()))
        streams = {task: self._of(task) for task in self.updates}
        tasks = list(self.updates)
        for place in np.random.default_rng([self.seed, self.epoch]).permutation(order):
            task = tasks[place]
            chosen = next(streams[task])
            # A short last one is filled up until it can be cut into equal pieces.
            chosen = np.resize(chosen, math.ceil(len(chosen) / self.pieces) * self.pieces)
            for piece in np.split(chosen, self.pieces):
                yield task, piece.tolist()

    def _of(self, task: str) -> Iterator[np.ndarray]:
        """The rows of each of a task's updates in this epoch."""
        first = self.epoch * self.updates[task]
        number, order = -1, np.zeros(0, dtype=np.int64)
        for update in range(first, first + self.updates[task]):
            if update // self.whole[task] != number:
                number = update // self.whole[task]
                self.passes[task].set_epoch(number)
                order = np.asarray(list(self.passes[task]))
            start = update % self.whole[task] * self.batch_size
            yield order[start : start + self.batch_size]


class _Batches(Dataset):
    """What the sampler's (task, row numbers) stand for."""

    def __init__(self, rows: Mapping[str, Examples]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))

    def __getitems__(self, batches: list[tuple[str, list[int]]]) -> Batch:
        ((task, numbers),) = batches
        return _named(task, self.rows[task].batch(numbers))


class _OneTask(Dataset):
    """The rows of one task, each with its name."""

    def __init__(self, task: str, rows: Examples) -> None:
        self.task, self.rows, self.lengths = task, rows, rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: list[int]) -> Batch:
        return _named(self.task, self.rows.batch(numbers))


def _named(task: str, batch: Batch) -> Batch:
    """A batch with the task as one of the model's inputs."""
    return batch | {"student": batch["student"] | {TASK: task}}


class MultitaskTrainer(DistillationTrainer):
    """A `DistillationTrainer` whose every update is about one task, under the objectives of that task.

    Validation measures each task; the mean of their metrics is what selects and stops.

    Args:
        model: the tasks' models around one encoder.
        args: as for `Trainer`; a batch comes whole from the sampler, so that its batch size is 1.
        objectives: task → (weight, objective) pairs.
        rows: task → rows to learn from.
        validation: task → rows to measure.
        metrics: task → what is told of predictions and labels, and the name of the one that counts.
        batch_size: rows of an update.
        shares: task → its updates in an epoch.
    """

    def __init__(
        self, model: MultitaskModel, args: Any, *, objectives: Mapping[str, Sequence[tuple[float, Objective]]],
        rows: Mapping[str, Examples], validation: Mapping[str, Examples],
        metrics: Mapping[str, tuple[Callable[[Any], dict[str, float]], str]], batch_size: int, shares: Mapping[str, int], **kwargs: Any,
    ) -> None:  # fmt: skip
        self._of_task = {
            task: [(weight, objective) for weight, objective in own if weight] for task, own in objectives.items()
        }
        self.rows, self.metrics = rows, metrics
        self.validation_rows = {task: _OneTask(task, own) for task, own in validation.items()}
        self.update_rows, self.shares = batch_size, shares
        args.ddp_find_unused_parameters = True  # the heads of the other tasks
        together: Any = model
        super().__init__(
            together, args, objectives=[pair for own in self._of_task.values() for pair in own], train_dataset=_Batches(rows),
            eval_dataset=self.validation_rows, **kwargs,
        )  # fmt: skip

    def _prepare_objectives(self, model: Any) -> None:
        for task, own in self._of_task.items():
            prepare_objectives(own, model.models[task], None, self.rows[task].labels, self.args.device)

    def _turn_to(self, task: str) -> None:
        """From here on the objectives are those of this task."""
        self.objectives = self._of_task[task]
        self._plain = len(self.objectives)
        self.needs, self.student_needs = asked_of(self.objectives)
        self._names = [f"{task}/{name}" for name in names_of(objective for _, objective in self.objectives)]

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._turn_to(inputs["student"][TASK])
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        self._turn_to(batch_samples[0]["student"][TASK])
        return super()._get_num_items_in_batch(batch_samples, device)

    def _get_train_sampler(self, train_dataset: Any = None) -> MixedBatches:
        pieces = self.args.gradient_accumulation_steps * self.args.world_size * max(self.args.n_gpu, 1)
        return MixedBatches(
            self.rows, self.update_rows, shares=self.shares, pieces=pieces, seed=self.args.seed,
            bucketed=self.args.train_sampling_strategy == "group_by_length",
        )  # fmt: skip

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of every task on its validation rows, as `eval_TASK/METRIC`, and `eval_mean` of those that count."""
        found: dict[str, float] = {}
        for task, rows in self.validation_rows.items():
            self.compute_metrics, _ = self.metrics[task]
            measured: Any = self.evaluation_loop(self.get_eval_dataloader(rows), "Evaluation", False).metrics
            found |= {f"eval_{task}/{name.removeprefix('eval_')}": value for name, value in measured.items()}
        found[f"eval_{MEAN}"] = float(
            np.mean([found[f"eval_{task}/{name}"] for task, (_, name) in self.metrics.items()])
        )
        self.log(dict(found))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


def train_together(
    students: Mapping[str, TextModel], rows: Mapping[str, Examples], validation: Mapping[str, Examples],
    tasks: Mapping[str, tuple[Task, str]], settings: TrainSettings, objectives: Mapping[str, Sequence[tuple[float, Objective]]], *,
    shares: Mapping[str, int], folder: Path, seed: int, name: str, write: Callable[[dict[str, Any]], None], device: str | None = None,
    autocast: bool = True, report_to: Sequence[str] = (),
) -> Trained:  # fmt: skip
    """Train students that share an encoder in place; they end with the weights that had the best mean on validation.

    With one task it is the same training as `train`, to the last digit.

    Args:
        students: task → its model; the encoder is one object.
        tasks: task → what it is, and the metric that counts.
        shares: task → its updates in an epoch.

    Raises:
        TrainingError: the loss is no longer a number.

    Source: Liu et al. 2019, arXiv:1901.11504, algorithm 1: a batch is of one task, and the tasks' batches are shuffled together. (BAM,
    arXiv:1907.04829, mixes the tasks within a batch.)
    """
    assert settings.epochs and settings.batch_size and settings.learning_rate, "settings must be resolved"
    device = find_device(device)
    if device == "cpu":
        reuse_memory()
    set_seed(seed)
    model = MultitaskModel({task: student.model for task, student in students.items()})
    first = next(iter(students.values()))
    freeze(first, settings.last_layers)
    precisions = {
        precision_for(student, rows[task], settings, objectives[task], None, device, autocast)
        for task, student in students.items()
    }
    precision = precisions.pop() if len(precisions) == 1 else "float32"
    planned = length_together([len(own) for own in rows.values()], settings)
    arguments = arguments_for(
        settings, planned, folder=folder, seed=seed, device=device,
        precision=precision, metric=MEAN, report_to=report_to, per_device_train_batch_size=1,
    )  # fmt: skip
    progress = Progress(name, write, MEAN)
    trainer = MultitaskTrainer(
        model, arguments, objectives=objectives, rows=rows, validation=validation, shares=shares,
        metrics={task: (_measure(one), metric) for task, (one, metric) in tasks.items()},
        batch_size=settings.batch_size * settings.accumulation * process_count(), processing_class=first.tokenizer,
        callbacks=callbacks_for(progress, planned.patience, folder, report_to),
    )  # fmt: skip
    return run(trainer, progress, folder, precision)


def length_together(rows: Sequence[int], settings: TrainSettings) -> Length:
    """How long a training on several tasks is; the least number of updates is for each of them.

    >>> length_together([100, 20], TrainSettings(epochs=2, batch_size=32)).updates
    10
    """
    assert settings.epochs, "settings must be resolved"
    updates = math.ceil(sum(updates_in_epoch(one, settings) for one in rows) * settings.epochs)
    return length_of(updates, settings, len(rows))


def _measure(task: Task) -> Callable[[Any], dict[str, float]]:
    return lambda found: task.measure(found.predictions, found.label_ids)
