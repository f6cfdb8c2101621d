"""`DistillationTrainer`: the `Trainer` of `transformers` with objectives and a teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from understudy.data.examples import Batch, Collator, Examples, LengthBuckets
from understudy.errors import RecipeError, TrainingError
from understudy.machine import move
from understudy.signals import Needs, Signals
from understudy.training.mixup import Mixup, blended
from understudy.training.self_average import SelfAveragedTeacher
from understudy.training.terms import Terms, Weighted, needs_of, teacher_view

# Private methods of `Trainer` that we override; the upper bound of `transformers` and a test guard against changes of them.
PRIVATE = (
    "_clip_grad_norm",
    "_get_eval_sampler",
    "_get_grad_norm",
    "_get_num_items_in_batch",
    "_get_train_sampler",
    "_load_from_checkpoint",
    "_save",
)
LEARNED = "objectives"  # the submodule of a model in training that holds the projections of objectives


class DistillationTrainer(Trainer):
    """Trains a student on a weighted sum of objectives. Works with any data set that a `Trainer` takes.

    The columns are the student's inputs (`input_ids`, …), `labels`, and those for the teacher: either kept outputs (`teacher_logits`), or
    the inputs of a live teacher (`teacher_input_ids`, …; where absent, it gets the student's inputs). A live teacher is run in evaluation
    mode, without gradient. A batch is nested: `student`, `teacher`, `labels`, `counted`.

    Each term is the mean over the positions that it counts in the whole update, over accumulated batches and processes alike, so that
    1 × 8 rows and 8 × 1 row give the same gradient even where only some rows are labelled.

    Args:
        model: the student.
        args: as for `Trainer`; `train_sampling_strategy="group_by_length"` uses length buckets, in an order fixed by seed and epoch.
        objectives: (weight, objective) pairs.
        teacher: a live teacher; None where the data set has `teacher_logits`, or no objective needs a teacher.
        teacher_pad_token_id: of the teacher's tokenizer, if it is not the student's.
        mixup: objectives on blended rows; a live teacher that they need must have the student's tokens.
        self_average: the mean of the student's weights as the teacher; it replaces `teacher`.
        terms: task → its objectives, teacher and mixup. They replace the arguments above; every batch names its `task`, which is the first
            argument of `model`.
        kwargs: as for `Trainer`.

    Raises:
        RecipeError: no objective has a weight.
        TrainingError: (while training) the loss is no longer finite; the message names the step and the last good checkpoint.

    Example:
        trainer = DistillationTrainer(
            student, TrainingArguments("out"), objectives=[(0.5, Labels()), (0.5, SoftTargets(temperature=2.0))],
            teacher=teacher, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments | None = None,
        *,
        objectives: Weighted = (),
        teacher: PreTrainedModel | None = None,
        teacher_pad_token_id: int | None = None,
        mixup: Mixup | None = None,
        self_average: SelfAveragedTeacher | None = None,
        terms: Mapping[str, Terms] | None = None,
        **kwargs: Any,
    ) -> None:
        args = copy.copy(args) if args else TrainingArguments("trainer_output")  # the caller's object stays unchanged
        args.remove_unused_columns = False  # it would drop the teacher's columns
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False  # it would take projections of objectives for unused
        args.logging_nan_inf_filter = False  # it would hide the values at which `training_step` below stops
        pad = getattr(kwargs.get("processing_class"), "pad_token_id", None)
        kwargs["data_collator"] = Collator(pad, teacher_pad_token_id, kwargs.get("data_collator"))
        self.self_average = self_average
        if self_average is not None:
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), self_average]
            teacher = self_average.model
        self.terms = terms or {"": Terms(objectives, model, teacher, mixup=mixup)}
        super().__init__(model, args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True  # compute_loss below averages over the whole update
        self.label_names = ["labels"]
        for task, task_terms in self.terms.items():
            if task_terms.teacher is not None:
                move(task_terms.teacher, args.device).eval()
            task_terms.prepare(self._labels(task), args.device, anew=terms is None)
        learned = [
            objective for task_terms in self.terms.values() for _, objective in task_terms.all if any(True for _ in objective.parameters())
        ]
        if learned:
            # A part of the model while it trains, so that optimizer, processes and checkpoints include their weights; see `train`.
            model.add_module(LEARNED, nn.ModuleList(learned))
        self._totals: dict[str, Tensor] = {}  # term → its sum since the last log
        self._updates: dict[str, set[int]] = {}  # term → the updates that it was part of since the last log

    def _labels(self, task: str) -> np.ndarray:
        """The labels of a task's training rows."""
        return labels_of(self.train_dataset)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; the projections of objectives are removed from the model at the end."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if hasattr(self.model, LEARNED):
                delattr(self.model, LEARNED)

    def _terms_of(self, batch: Batch) -> Terms:
        return self.terms[batch.get("task", "")]

    def _run_of(self, model: nn.Module, batch: Batch) -> Callable[..., Any]:
        """The model, perhaps wrapped, as a function of a batch's inputs alone."""
        return partial(model, batch["task"]) if "task" in batch else model

    def compute_loss(self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The weighted sum of the objectives' terms, scaled so that all batches of an update sum to its mean."""
        terms, run = self._terms_of(inputs), self._run_of(model, inputs)
        needs, student_needs = needs_of(terms.plain)
        outputs, student = terms.of_student(inputs["student"], student_needs, run)
        assert student.logits is not None
        # A head that no objective trains gets a zero gradient, because several processes wait for the gradient of every weight.
        loss = student.logits.new_zeros(()) if student_needs.logits else 0.0 * student.logits.sum()
        comparisons = [(1.0, student, self._teacher_signals(terms, needs, inputs), inputs)]
        for index, (weight, objective) in enumerate(terms.all):
            if index == len(terms.plain):
                comparisons = self._blended(terms, run, inputs)
            objective.progress = self.state.global_step / max(self.state.max_steps, 1)
            with torch.autocast(loss.device.type, enabled=False):  # the arithmetic of the loss stays in float32
                term = torch.stack([share * objective(*signals) for share, *signals in comparisons]).sum()
            if num_items_in_batch is not None:
                share = objective.counted(inputs).sum() / num_items_in_batch[index].clamp(min=1)
                term = term * share * self.accelerator.num_processes  # processes average their gradients
            loss = loss + weight * term
            name = terms.names[index]
            self._totals[name] = self._totals.get(name, 0.0) + term.detach()
            self._updates.setdefault(name, set()).add(self.state.global_step)
        return (loss, outputs) if return_outputs else loss

    def _blended(self, terms: Terms, run: Callable[..., Any], inputs: Batch) -> list[tuple[float, Signals, Signals, Batch]]:
        """Signals of both models for blended rows, with the labels of the row itself and of the other row, each with its share."""
        assert terms.mixup is not None
        needs, student_needs = needs_of(terms.mixed)
        share, order = terms.mixup.draw(len(inputs["student"]["input_ids"]))
        mixed_inputs = blended(terms.student, inputs["student"], share, order)
        _, student = terms.of_student(mixed_inputs, student_needs, run)
        teacher = Signals()
        if needs:
            if terms.teacher is None:
                raise RecipeError("objectives with mixup need the teacher model: give `teacher=`")
            with torch.no_grad(), self.accelerator.autocast():
                teacher = terms.of_teacher(blended(terms.teacher, teacher_view(inputs), share, order), needs)
        batch = inputs | {"student": inputs["student"] | {"attention_mask": mixed_inputs["attention_mask"]}}
        relabelled = batch | {"labels": inputs["labels"][order.to(inputs["labels"].device)]}
        return [(share, student, teacher, batch), (1 - share, student, teacher, relabelled)]

    def _teacher_signals(self, terms: Terms, needs: Needs, inputs: Batch) -> Signals:
        if not needs:
            return Signals()
        kept = inputs.get("teacher", {}).get("logits")
        if not needs.internals and kept is not None:
            return terms.kept(kept)
        with torch.no_grad(), self.accelerator.autocast():
            return terms.of_teacher(teacher_view(inputs), needs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """How many positions each objective counts in the whole update."""
        if len(batch_samples) == 1 and self.accelerator.num_processes == 1:
            return None  # every term is the mean over the update already
        counts = torch.stack(
            [
                torch.stack([objective.counted(batch).sum().to(device) for batch in batch_samples]).sum()
                for _, objective in self._terms_of(batch_samples[0]).all
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
        # torch multiplies every gradient, even by 1; on a CPU that costs as much as the norm itself.
        trained = [weight for weight in model.parameters() if weight.grad is not None]
        norm = get_total_norm([weight.grad for weight in trained if weight.grad is not None])
        if not norm <= self.args.max_grad_norm:
            clip_grads_with_norm_(trained, self.args.max_grad_norm, norm)
        return norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # Checked before the optimizer's step: a gradient that is not finite would spoil every weight and the next checkpoint.
        if not math.isfinite(norm) and self.accelerator.scaler is None:  # float16's scaler skips such updates by itself
            raise self._broken("the norm of the gradient", float(norm))
        return norm

    def _broken(self, what: str, value: float) -> TrainingError:
        return TrainingError(
            f"{what} is {value} at step {self.state.global_step + 1}; {self._last_checkpoint()}. A lower learning rate "
            "(train.learning_rate of the stage, or of finetune) or train.precision=float32 usually fixes it."
        )

    def _last_checkpoint(self) -> str:
        kept = sorted(Path(self.args.output_dir or ".").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        return f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint before it"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._totals:
            for name, total in self._totals.items():
                logs[f"loss/{name}"] = self.accelerator.reduce(total, "mean").item() / len(self._updates[name])
            self._totals, self._updates = {}, {}
        super().log(logs, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, Tensor, Tensor | None]:
        """Only the task's scores (or outputs) and labels: gathering more would fill the memory."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = self._run_of(model, inputs)(**inputs["student"]).logits.float()
        task, labels = self._terms_of(inputs).task, inputs.get("labels")
        return None, outputs if task is None or labels is None else task.scores(outputs, labels), labels

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        weights = getattr(rows, "sampling_weights", None)
        bucketed = self.args.train_sampling_strategy == "group_by_length"
        if not (bucketed or isinstance(rows, Examples)):
            return super()._get_train_sampler(train_dataset)
        lengths = rows.lengths if isinstance(rows, Examples) else np.asarray([len(row["input_ids"]) for row in rows])
        update = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        on_epoch = getattr(rows, "set_epoch", None)
        return LengthBuckets(lengths, update, seed=self.args.seed, weights=weights, bucketed=bucketed, on_epoch=on_epoch)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        lengths = getattr(eval_dataset, "lengths", None)
        if lengths is None or self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        order = torch.Generator().manual_seed(self.args.seed)  # the order of `Trainer` for known lengths
        return LengthGroupedSampler(self.args.eval_batch_size, lengths=lengths.tolist(), generator=order)

    def floating_point_ops(self, inputs: Any) -> int:
        """0: the count is not used, and computing it from all parameters at every step slows small students."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        # The Trainer pickles its arguments beside the weights. Our folders hold nothing that runs code when loaded.
        folder = Path(output_dir or self.args.output_dir or ".")
        (folder / "training_args.bin").unlink(missing_ok=True)
        if self.self_average is not None:
            self.self_average.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.self_average is not None:
            self.self_average.load(resume_from_checkpoint)


def labels_of(rows: Any) -> np.ndarray:
    """The labels of a data set, (rows,) or (rows, positions); empty where it has no such column."""
    if isinstance(rows, Examples):
        return rows.labels
    names = [name for name in ("labels", "label") if name in (getattr(rows, "column_names", None) or ())]
    return np.asarray(rows[names[0]]) if names else np.zeros(0, dtype=np.int64)
