"""The lesson of a task, and the training of several lessons with a shared encoder: the module, its batches, its trainer."""

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

MEAN = "mean"  # of the tasks' metrics on validation rows: selects the weights


@dataclass(frozen=True)
class Lesson:
    """What a model learns about one task in one training.

    Args:
        model: the student; the models of several lessons share an encoder.
        examples: for training.
        validation: examples that select the weights.
        objectives: (weight, objective) pairs, used by this training alone.
        metric: that selects the weights.
        metric_name: its name in the progress bar; None: as in the settings.
        teacher: a live teacher, which is run during training.
        mixup: objectives on blended rows.
        share: updates in an epoch, if there are other lessons.
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
        """Whether any objective trains the head; else its predictions do not depend on the training."""
        return any(objective.student_needs.logits for weight, objective in self.objectives if weight)

    def measure(self, evaluated: Any) -> dict[str, float]:
        """Metric → value, from the `EvalPrediction` of the Trainer on the validation rows."""
        return self.task.validated(evaluated.predictions, evaluated.label_ids)


class JoinedModel(nn.Module):
    """Several classifiers (or regressors) of one family with a shared encoder, as one module for training.

    It registers the encoder once, then each head, so that checkpoints, optimizer and processes get every weight once.

    Args:
        models: task → its model; all have the first one's `base_model`.

    Raises:
        ModelError: a model whose weights are not all in the shared encoder or in its head.
    """

    def __init__(self, models: Mapping[str, PreTrainedModel]) -> None:
        super().__init__()
        self.models = dict(models)  # a plain dictionary: registered modules would add the encoder once more each
        self.encoder = next(iter(models.values())).base_model
        self.heads = nn.ModuleList(
            nn.ModuleDict({name: part for name, part in model.named_children() if part is not self.encoder}) for model in models.values()
        )
        weights = {id(weight) for weight in self.parameters()}
        for task, model in models.items():
            if model.base_model is not self.encoder or not weights >= {id(weight) for weight in model.parameters()}:
                raise ModelError(f"task {task}: its model does not consist of the shared encoder and a head")

    @property
    def base_model(self) -> nn.Module:
        """The encoder, under the name that models of `transformers` use."""
        return self.encoder

    def forward(self, task: str, **inputs: Tensor) -> Any:
        """The outputs of one task's model for a batch."""
        return self.models[task](**inputs)

    def train(self, mode: bool = True) -> JoinedModel:
        """Set training or evaluation mode, also of the tasks' models: some families read their own flag, not only that of layers."""
        super().train(mode)
        for model in self.models.values():
            model.training = mode
        return self


def joined(models: Mapping[str, PreTrainedModel]) -> Any:
    """The models as one module for training: the only model itself, or a `JoinedModel` of several."""
    return JoinedModel(models) if len(models) > 1 else next(iter(models.values()))


class MixedBatches(Sampler[tuple[str, list[int]]]):
    """Batches of one task each, as (task, row numbers), in an order of tasks that depends on seed and epoch alone.

    An epoch has `shares[task]` updates of each task, independent of the number of its rows: so a control that learns from fewer rows than
    the student has the same tasks in the same order. The rows of a task come in passes, in length buckets; an epoch continues the pass
    where the previous epoch stopped. All batches of an update, accumulated and of all processes, are of one task. With one task, and a
    share that shows each row once, the rows come in the order of `LengthBuckets`.

    Args:
        rows: task → its examples.
        batch_size: rows of an update.
        pieces: batches of an update: accumulated batches times processes.
        shares: task → its updates in an epoch.
    """

    def __init__(
        self,
        rows: Mapping[str, Examples],
        batch_size: int,
        *,
        shares: Mapping[str, int],
        pieces: int = 1,
        seed: int = 0,
        bucketed: bool = True,
    ) -> None:
        self.batch_size, self.pieces, self.seed, self.epoch = batch_size, pieces, seed, 0
        self.passes = {
            task: LengthBuckets(examples.lengths, batch_size, seed=seed, weights=examples.sampling_weights, bucketed=bucketed)
            for task, examples in rows.items()
        }
        self.whole = {task: math.ceil(len(examples) / batch_size) for task, examples in rows.items()}  # updates of a pass
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
            # A short last update is filled up until it can be split into equal pieces.
            chosen = np.resize(chosen, math.ceil(len(chosen) / self.pieces) * self.pieces)
            for piece in np.split(chosen, self.pieces):
                yield task, piece.tolist()

    def _of(self, task: str) -> Iterator[np.ndarray]:
        """The row numbers of each of a task's updates in this epoch."""
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
    """The examples of all tasks, read by the (task, row numbers) of `MixedBatches`."""

    def __init__(self, rows: Mapping[str, Examples]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))

    def __getitems__(self, batches: list[tuple[str, list[int]]]) -> Batch:
        ((task, numbers),) = batches
        return self.rows[task].batch(numbers) | {"task": task}


class _OneTask(Dataset):
    """The examples of one task; each batch names the task."""

    def __init__(self, task: str, rows: Examples) -> None:
        self.task, self.rows, self.lengths = task, rows, rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: list[int]) -> Batch:
        return self.rows.batch(numbers) | {"task": self.task}


class LessonsTrainer(DistillationTrainer):
    """A `DistillationTrainer` in which each update is of one task, with the objectives of that task.

    Validation measures each task; the mean of their metrics selects the weights and stops the training.

    Args:
        model: the tasks' models with their shared encoder.
        args: as for `Trainer`; the sampler gives whole batches, so that its batch size is 1.
        lessons: task → its lesson.
        batch_size: rows of an update.
        kwargs: as for `DistillationTrainer`.
    """

    def __init__(self, model: JoinedModel, args: Any, *, lessons: Mapping[str, Lesson], batch_size: int, **kwargs: Any) -> None:
        self.lessons, self.update_rows = lessons, batch_size
        self.validation_rows = {task: _OneTask(task, lesson.validation) for task, lesson in lessons.items()}
        together: Any = model
        rows = _Batches({task: lesson.examples for task, lesson in lessons.items()})
        super().__init__(together, args, train_dataset=rows, eval_dataset=self.validation_rows, **kwargs)

    def _labels(self, task: str) -> np.ndarray:
        return self.lessons[task].examples.labels

    def _get_train_sampler(self, train_dataset: Any = None) -> MixedBatches:
        pieces = self.args.gradient_accumulation_steps * self.args.world_size * max(self.args.n_gpu, 1)
        return MixedBatches(
            {task: lesson.examples for task, lesson in self.lessons.items()},
            self.update_rows,
            shares={task: lesson.share for task, lesson in self.lessons.items()},
            pieces=pieces,
            seed=self.args.seed,
            bucketed=self.args.train_sampling_strategy == "group_by_length",
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of every task on its validation rows, as `eval_TASK/METRIC`, and the mean of those that select as `eval_mean`.

        A metric of which lower is better enters the mean with a negative sign.
        """
        metrics: dict[str, float] = {}
        selecting = []
        for task, rows in self.validation_rows.items():
            lesson = self.lessons[task]
            self.compute_metrics = lesson.measure
            task_metrics: Any = self.evaluation_loop(self.get_eval_dataloader(rows), "Evaluation", False).metrics
            metrics |= {f"eval_{task}/{name.removeprefix('eval_')}": value for name, value in task_metrics.items()}
            selecting.append(lesson.task.metric(lesson.metric).signed(metrics[f"eval_{task}/{lesson.metric}"]))
        metrics[f"eval_{MEAN}"] = float(np.mean(selecting))
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
