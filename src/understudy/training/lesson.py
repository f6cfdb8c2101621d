"""What a task asks of a training, and the training of several that share one encoder: the module, its batches, its trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel

from understudy.data.examples import Batch, Examples, LengthBuckets
from understudy.errors import ModelError
from understudy.models.text_model import TextModel
from understudy.tasks import Task
from understudy.training.masked_lm import MaskedLMScores
from understudy.training.mixup import Mixup
from understudy.training.terms import Weighted
from understudy.training.trainer import DistillationTrainer

MEAN = "mean"  # of the tasks' own metrics on validation rows: what selects


@dataclass(frozen=True)
class Lesson:
    """What one task asks of one training.

    Args:
        model: the student; those of several lessons hold one encoder.
        examples: what is learned from.
        validation: what selects.
        objectives: (weight, objective) pairs, of this training alone.
        metric: that counts.
        metric_name: what the progress bar calls it; None: as the settings do.
        teacher: a live one.
        mixup: what is learned from blended rows besides.
        share: updates in an epoch, where there are other lessons.
    """

    task: Task | MaskedLMScores
    model: TextModel
    examples: Examples
    validation: Examples
    objectives: Weighted
    metric: str
    metric_name: str | None = None
    teacher: TextModel | None = None
    mixup: Mixup | None = None
    share: int = 1

    @property
    def trains_head(self) -> bool:
        """Whether any objective does; else its answers say nothing of the weights."""
        return any(objective.student_needs.logits for weight, objective in self.objectives if weight)

    def measure(self, found: Any) -> dict[str, float]:
        """Every metric, of what the Trainer has of validation rows."""
        return self.task.measure(found.predictions, found.label_ids)


class JoinedModel(nn.Module):
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
        """The outputs of one task's model for a batch."""
        return self.models[task](**inputs)

    def train(self, mode: bool = True) -> JoinedModel:
        """Into training or evaluation mode, the tasks' models too: some families ask themselves, not only their layers."""
        super().train(mode)
        for model in self.models.values():
            model.training = mode
        return self


def joined(models: Mapping[str, PreTrainedModel]) -> Any:
    """Models as one that trains: the only one itself, or several around their encoder."""
    return JoinedModel(models) if len(models) > 1 else next(iter(models.values()))


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
        return self.rows[task].batch(numbers) | {"task": task}


class _OneTask(Dataset):
    """The rows of one task, each with its name."""

    def __init__(self, task: str, rows: Examples) -> None:
        self.task, self.rows, self.lengths = task, rows, rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: list[int]) -> Batch:
        return self.rows.batch(numbers) | {"task": self.task}


class LessonsTrainer(DistillationTrainer):
    """A `DistillationTrainer` whose every update is about one task, under the objectives of that task.

    Validation measures each task; the mean of their metrics is what selects and stops.

    Args:
        model: the tasks' models around one encoder.
        args: as for `Trainer`; a batch comes whole from the sampler, so that its batch size is 1.
        lessons: task → what it asks.
        batch_size: rows of an update.
        kwargs: as for `DistillationTrainer`.
    """

    def __init__(
        self, model: JoinedModel, args: Any, *, lessons: Mapping[str, Lesson], batch_size: int, **kwargs: Any
    ) -> None:
        self.lessons, self.update_rows = lessons, batch_size
        self.validation_rows = {task: _OneTask(task, own.validation) for task, own in lessons.items()}
        together: Any = model
        rows = _Batches({task: own.examples for task, own in lessons.items()})
        super().__init__(together, args, train_dataset=rows, eval_dataset=self.validation_rows, **kwargs)

    def _labels(self, task: str) -> np.ndarray:
        return self.lessons[task].examples.labels

    def _get_train_sampler(self, train_dataset: Any = None) -> MixedBatches:
        pieces = self.args.gradient_accumulation_steps * self.args.world_size * max(self.args.n_gpu, 1)
        return MixedBatches(
            {task: own.examples for task, own in self.lessons.items()}, self.update_rows,
            shares={task: own.share for task, own in self.lessons.items()}, pieces=pieces, seed=self.args.seed,
            bucketed=self.args.train_sampling_strategy == "group_by_length",
        )  # fmt: skip

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of every task on its validation rows, as `eval_TASK/METRIC`, and `eval_mean` of those that count.

        In the mean a metric of which less is better counts as its negative.
        """
        found: dict[str, float] = {}
        counts = []
        for task, rows in self.validation_rows.items():
            lesson = self.lessons[task]
            self.compute_metrics = lesson.measure
            measured: Any = self.evaluation_loop(self.get_eval_dataloader(rows), "Evaluation", False).metrics
            found |= {f"eval_{task}/{name.removeprefix('eval_')}": value for name, value in measured.items()}
            counts.append(lesson.task.metric(lesson.metric).signed(found[f"eval_{task}/{lesson.metric}"]))
        found[f"eval_{MEAN}"] = float(np.mean(counts))
        self.log(dict(found))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found
