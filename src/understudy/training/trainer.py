"""`DistillationTrainer`: the `Trainer` of `transformers` with objectives, a teacher, and nothing else changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from understudy.data.examples import Batch, Collator, Examples, LengthBuckets
from understudy.errors import RecipeError, TrainingError
from understudy.machine import process_count
from understudy.models import encoder
from understudy.objectives import Objective
from understudy.settings.stage import TrainSettings
from understudy.signals import Needs, Shape, Signals
from understudy.teachers.capture import signals_of
from understudy.training.masked_lm import token_scores
from understudy.training.mixup import Mixup, blended
from understudy.training.self_average import SelfAveragedTeacher

PATIENCE = 4  # evaluations, where a training goes on after its epochs
LEARNED = "objectives"  # the module of a model in training that holds what objectives learn for themselves


class DistillationTrainer(Trainer):
    """Trains a student on a weighted sum of objectives. Works with any data set that a `Trainer` takes.

    The columns are the student's inputs (`input_ids`, …), `labels`, and what the teacher needs: either kept outputs (`teacher_logits`),
    or a live teacher's own view of the rows (`teacher_input_ids`, …; where absent, the student's inputs are fed to it). A live teacher
    runs in evaluation mode, without gradient. In a batch they are nested: `student`, `teacher`, `labels`, and what is `counted`.

    Each term is averaged over the positions that it counts in the whole update, over accumulated batches and processes alike, so
    that 1 × 8 rows and 8 × 1 row give the same gradient even where only some rows are labelled.

    Args:
        model: the student.
        args: as for `Trainer`; `train_sampling_strategy="group_by_length"` uses length buckets whose order depends on seed and epoch alone.
        objectives: (weight, objective) pairs.
        teacher: a live teacher; None when the data set carries `teacher_logits`, or no objective needs one.
        teacher_pad_token_id: of the teacher's tokenizer, where it is not the student's.
        mixup: what is learned from blended rows besides; a live teacher, where it is asked, must share the student's tokens.
        self_average: the teacher, where it is the student's own mean; `teacher` is left out then.
        kwargs: as for `Trainer`.

    Raises:
        RecipeError: no objective has a weight.
        TrainingError: (while training) the loss is no longer a number; says the step and the last good checkpoint.

    Example:
        trainer = DistillationTrainer(
            student, TrainingArguments("out"), objectives=[(0.5, Labels()), (0.5, SoftTargets(temperature=2.0))],
            teacher=teacher, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
    """

    def __init__(
        self, model: PreTrainedModel, args: TrainingArguments | None = None, *, objectives: Sequence[tuple[float, Objective]],
        teacher: PreTrainedModel | None = None, teacher_pad_token_id: int | None = None, mixup: Mixup | None = None,
        self_average: SelfAveragedTeacher | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        args = args or TrainingArguments("trainer_output")
        args.remove_unused_columns = False  # it would drop the teacher's columns
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False  # it would take the maps that objectives learn for unused
        args.logging_nan_inf_filter = False  # it would hide what `training_step` below stops at
        pad = getattr(kwargs.get("processing_class"), "pad_token_id", None)
        kwargs["data_collator"] = Collator(pad, teacher_pad_token_id, kwargs.get("data_collator"))
        self.objectives = [(weight, objective) for weight, objective in objectives if weight]
        if not self.objectives:
            raise RecipeError("every objective has weight 0: nothing to learn from")
        self.mixup, self.self_average = mixup, self_average
        if self_average is not None:
            teacher, kwargs["callbacks"] = self_average.model, [*(kwargs.get("callbacks") or []), self_average]
        self._plain = len(self.objectives)  # the others are on blended rows
        if mixup is not None:
            self.objectives += [(weight, objective) for weight, objective in mixup.objectives if weight]
        super().__init__(model, args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True  # compute_loss below averages over the whole update by itself
        self.label_names = ["labels"]
        self.teacher = teacher.to(args.device).eval().requires_grad_(False) if teacher is not None else None  # type: ignore[arg-type]
        self._prepare_objectives(model)
        plain, mixed = self.objectives[: self._plain], self.objectives[self._plain :]
        self.needs, self.student_needs = asked_of(plain)
        self._mixed_needs = asked_of(mixed)
        learned = [objective for _, objective in self.objectives if any(True for _ in objective.parameters())]
        if learned:
            # Part of the model while it trains, so that optimizer, processes and checkpoints take their weights along; see `train`.
            model.add_module(LEARNED, nn.ModuleList(learned))
        self._names = names_of(objective for _, objective in self.objectives[: self._plain])
        self._names += [
            f"mixed_{name}" for name in names_of(objective for _, objective in self.objectives[self._plain :])
        ]
        self._terms: dict[str, Tensor] = {}
        self._terms_of: dict[str, set[int]] = {}  # the updates that a term was part of

    def _prepare_objectives(self, model: PreTrainedModel) -> None:
        """Tell the objectives of the models and rows that they are for."""
        prepare_objectives(self.objectives, model, self.teacher, labels_of(self.train_dataset), self.args.device)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; what the objectives learned for themselves is taken off the model at the end."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if hasattr(self.model, LEARNED):
                delattr(self.model, LEARNED)

    @property
    def _student(self) -> PreTrainedModel:
        """The model without what several processes wrap around it."""
        return cast(PreTrainedModel, self.model)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted sum of the objectives' terms, scaled so that all batches of an update sum to its mean."""
        outputs, student = signals_of(self._student, inputs["student"], self.student_needs, run=model)
        teacher = self._teacher_signals(inputs)
        assert student.logits is not None
        # A head that no objective trains gets a gradient of zero: several processes wait for one of every weight.
        loss = student.logits.new_zeros(()) if self.student_needs.logits else 0.0 * student.logits.sum()
        ways = [(1.0, student, teacher, inputs)]
        for index, (weight, objective) in enumerate(self.objectives):
            if index == self._plain:
                ways = self._blended(model, inputs)
            objective.progress = self.state.global_step / max(self.state.max_steps, 1)
            with torch.autocast(loss.device.type, enabled=False):  # the arithmetic of the loss stays in float32
                term = torch.stack([share * objective(*said) for share, *said in ways]).sum()
            if num_items_in_batch is not None:
                share = objective.counted(inputs).sum() / num_items_in_batch[index].clamp(min=1)
                term = term * share * self.accelerator.num_processes  # processes average their gradients
            loss = loss + weight * term
            name = self._names[index]
            self._terms[name] = self._terms.get(name, 0.0) + term.detach()
            self._terms_of.setdefault(name, set()).add(self.state.global_step)
        return (loss, outputs) if return_outputs else loss

    def _blended(self, model: nn.Module, inputs: Batch) -> list[tuple[float, Signals, Signals, Batch]]:
        """What both models say of blended rows, with the labels of the row itself and of the other, each with its share."""
        assert self.mixup is not None
        needs, student_needs = self._mixed_needs
        share, order = self.mixup.draw(len(inputs["student"]["input_ids"]))
        own = blended(self._student, inputs["student"], share, order)
        _, student = signals_of(self._student, own, student_needs, run=model)
        teacher = Signals()
        if needs:
            if self.teacher is None:
                raise RecipeError("objectives with mixup need the teacher model: give `teacher=`")
            with torch.no_grad(), self.accelerator.autocast():
                _, teacher = signals_of(self.teacher, blended(self.teacher, teacher_view(inputs), share, order), needs)
        batch = inputs | {"student": inputs["student"] | {"attention_mask": own["attention_mask"]}}
        other = batch | {"labels": inputs["labels"][order.to(inputs["labels"].device)]}
        return [(share, student, teacher, batch), (1 - share, student, teacher, other)]

    def _teacher_signals(self, inputs: Batch) -> Signals:
        if not self.needs:
            return Signals()
        kept = inputs.get("teacher", {}).get("logits")
        if not self.needs.inside and kept is not None:
            return Signals(logits=kept.float())
        if self.teacher is None:
            raise RecipeError(
                "the objectives need a teacher: give `teacher=`, or a `teacher_logits` column in the data set"
            )
        with torch.no_grad(), self.accelerator.autocast():
            return signals_of(self.teacher, teacher_view(inputs), self.needs)[1]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """How many positions each objective counts in the whole update."""
        if len(batch_samples) == 1 and self.accelerator.num_processes == 1:
            return None  # then every term is the mean over the update already
        counts = torch.stack(
            [
                torch.stack([objective.counted(batch).sum().to(device) for batch in batch_samples]).sum()
                for _, objective in self.objectives
            ]
        )
        return self.accelerator.reduce(counts, "sum")

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise self._broken("the loss", loss.item())
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        if self.args.device.type != "cpu":
            return super()._clip_grad_norm(model)
        # torch multiplies every gradient even by 1; on a processor that costs as much as the norm itself.
        trained = [one for one in model.parameters() if one.grad is not None]
        norm = get_total_norm([one.grad for one in trained if one.grad is not None])
        if not norm <= self.args.max_grad_norm:
            clip_grads_with_norm_(trained, self.args.max_grad_norm, norm)
        return norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # The optimizer comes next: a gradient that is no number would spoil every weight, and the next checkpoint with them.
        if not math.isfinite(norm) and self.accelerator.scaler is None:  # float16's scaler skips such updates by itself
            raise self._broken("the norm of the gradient", float(norm))
        return norm

    def _broken(self, what: str, value: float) -> TrainingError:
        return TrainingError(
            f"{what} is {value} at step {self.state.global_step + 1}; {self._last_checkpoint()}. A lower learning rate "
            "(train.learning_rate of the stage, or of finetune) or train.precision=float32 usually fixes it."
        )

    def _last_checkpoint(self) -> str:
        kept = sorted(
            Path(self.args.output_dir or ".").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])
        )  # type: ignore[arg-type]
        return f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint before it"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._terms:
            for name, total in self._terms.items():
                logs[f"loss/{name}"] = self.accelerator.reduce(total, "mean").item() / len(self._terms_of[name])
            self._terms, self._terms_of = {}, {}
        super().log(logs, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, Tensor, Tensor | None]:
        """Logits and labels only, and of a vocabulary their scores: gathering more would fill the memory."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(**inputs["student"]).logits.float()
        labels = inputs.get("labels")
        if labels is not None and labels.dim() == 2:
            return None, token_scores(logits, labels), labels[:, 0]
        return None, logits, labels

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        weights = getattr(rows, "sampling_weights", None)
        bucketed = self.args.train_sampling_strategy == "group_by_length"
        if not (bucketed or isinstance(rows, Examples)):
            return super()._get_train_sampler(train_dataset)
        lengths = rows.lengths if isinstance(rows, Examples) else np.asarray([len(row["input_ids"]) for row in rows])
        update = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        tell = getattr(rows, "set_epoch", None)
        return LengthBuckets(lengths, update, seed=self.args.seed, weights=weights, bucketed=bucketed, tell=tell)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        lengths = getattr(eval_dataset, "lengths", None)
        if lengths is None or self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        order = torch.Generator().manual_seed(self.args.seed)  # the order that `Trainer` takes where it knows lengths
        return LengthGroupedSampler(self.args.eval_batch_size, lengths=lengths.tolist(), generator=order)

    def floating_point_ops(self, inputs: Any) -> int:
        """Nobody reads this count, and walking all parameters at every step slows small students."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        # The Trainer pickles its arguments beside the weights. A folder of ours holds nothing that runs code when loaded.
        folder = Path(output_dir or self.args.output_dir or ".")
        (folder / "training_args.bin").unlink(missing_ok=True)
        if self.self_average is not None:
            self.self_average.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.self_average is not None:
            self.self_average.load(resume_from_checkpoint)


def teacher_view(inputs: Batch) -> dict[str, Tensor]:
    """What a teacher's model takes of a batch: its own view, or the student's where there is none."""
    own = {name: value for name, value in inputs.get("teacher", {}).items() if name != "logits"}
    return own or inputs["student"]


def teacher_shape(teacher: PreTrainedModel | None, student: PreTrainedModel) -> Shape:
    """What objectives are told of the teacher; of one that is known by its kept logits only, their width."""
    return (
        encoder.shape(teacher, "teacher")
        if teacher is not None
        else Shape("teacher", encoder.shape(student, "student").outputs)
    )


def prepare_objectives(
    objectives: Sequence[tuple[float, Objective]], student: PreTrainedModel, teacher: PreTrainedModel | None, labels: np.ndarray,
    device: Any,
) -> None:  # fmt: skip
    """Tell objectives of the models and the labels that they are made for, and bring them to the device."""
    shapes = {"student": encoder.shape(student, "student"), "teacher": teacher_shape(teacher, student)}
    for _, objective in objectives:
        objective.prepare(labels=labels, **shapes)
        objective.to(device)


def labels_of(rows: Any) -> np.ndarray:
    """The labels of a data set, as far as it tells them."""
    if isinstance(rows, Examples):
        return rows.labels
    names = [name for name in ("labels", "label") if name in (getattr(rows, "column_names", None) or ())]
    return np.asarray(rows[names[0]]) if names else np.zeros(0, dtype=np.int64)


def asked_of(objectives: Sequence[tuple[float, Objective]]) -> tuple[Needs, Needs]:
    """What objectives want of the teacher, and of the student."""
    given = [objective for _, objective in objectives]
    return reduce(or_, [one.needs for one in given], Needs()), reduce(
        or_, [one.student_needs for one in given], Needs()
    )


def names_of(objectives: Iterable[Objective]) -> list[str]:
    """`SoftTargets` → `soft_targets`: the kind, as in the recipe; the second of a kind is `soft_targets_2`."""
    seen: Counter[str] = Counter()
    names = []
    for objective in objectives:
        kind = type(objective).__module__.rpartition(".")[2]
        seen[kind] += 1
        names.append(kind if seen[kind] == 1 else f"{kind}_{seen[kind]}")
    return names


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Args:
        updates: made at most.
        patience: evaluations without a better one before it stops; None never stops it.
        by_epochs: whether its epochs end it, and not a number of updates.
    """

    updates: int
    patience: int | None
    by_epochs: bool

    def __str__(self) -> str:
        """For the terminal.

        >>> str(Length(300, patience=4, by_epochs=False)), str(Length(8, patience=None, by_epochs=True))
        ('at most 300 updates', '8 updates')
        """
        return f"{'at most ' if self.patience else ''}{self.updates:,} updates"


def length(rows: int, settings: TrainSettings) -> Length:
    """How long a training on so many rows is; with several processes, each update takes a batch from each.

    >>> length(100, TrainSettings(epochs=2, batch_size=32))
    Length(updates=8, patience=None, by_epochs=True)
    """
    assert settings.epochs and settings.batch_size, "settings must be resolved"
    batches = math.ceil(math.ceil(rows / settings.batch_size) / process_count())
    return length_of(math.ceil(math.ceil(batches / settings.accumulation) * settings.epochs), settings)


def length_of(in_epochs: int, settings: TrainSettings, tasks: int = 1) -> Length:
    """How long a training is whose epochs come to so many updates; the least number of updates is for each task."""
    least = least_updates(settings) * tasks
    updates = settings.max_steps or max(in_epochs, least)
    patience = settings.patience or (PATIENCE if updates <= least else None)
    return Length(updates, patience, by_epochs=not settings.max_steps and in_epochs >= least)


def least_updates(settings: TrainSettings) -> int:
    return settings.min_updates or 0
