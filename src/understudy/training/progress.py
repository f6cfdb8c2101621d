"""The callbacks of a training: progress bar, metrics file, early stopping."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback


def callbacks_for(progress: Progress, patience: int | None, folder: Path, report_to: Sequence[str]) -> list[TrainerCallback]:
    return [progress, *([Patience(patience)] if patience else []), *([_tensorboard(folder)] if "tensorboard" in report_to else [])]


class Patience(EarlyStoppingCallback):
    """Stops a training whose validation metric no longer improves; resumed from the checkpoint where it stopped, it ends at once."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
            control.should_evaluate = control.should_save = False


class Progress(TrainerCallback):
    """Shows a bar with the time left on stderr, and writes every number into the run's metrics."""

    def __init__(self, name: str, write: Callable[[dict[str, Any]], None], metric: str) -> None:
        self.name, self.write, self.metric = name, write, metric
        self.before = 0.0
        self.started = time.perf_counter()
        self.bar: Any = None

    @property
    def seconds(self) -> float:
        """Seconds of training, including those before an interruption."""
        return self.before + time.perf_counter() - self.started

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        # The log in the checkpoint holds the seconds before an interruption.
        self.before = max((line.get("seconds", 0.0) for line in state.log_history), default=0.0)
        self.started = time.perf_counter()
        if state.is_world_process_zero:
            self.bar = tqdm(
                desc=self.name,
                total=state.max_steps,
                initial=state.global_step,
                unit="update",
                leave=False,
                dynamic_ncols=True,
                mininterval=0.1 if sys.stderr.isatty() else 30.0,  # a log file gets a line from time to time
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or not state.is_world_process_zero:
            return
        logs["seconds"] = round(self.seconds, 3)
        state.log_history[-1]["seconds"] = logs["seconds"]
        if "loss" in logs:
            self.write({"step": state.global_step, **logs})
            if self.bar is not None:
                best = "" if state.best_metric is None else f", best validation {self.metric} {state.best_metric:.4f}"
                self.bar.set_postfix_str(f"loss {logs['loss']:.4g}{best}", refresh=False)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            runtime = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_loss")
            values = {
                key.removeprefix("eval_"): value for key, value in (metrics or {}).items() if key.startswith("eval_") and key not in runtime
            }
            self.write({"step": state.global_step, "validation": values})

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _tensorboard(folder: Path) -> TrainerCallback:
    """Writes beside the checkpoints' folder, which is deleted at the end of the run."""
    from transformers.integrations import TensorBoardCallback

    callback = TensorBoardCallback()
    callback.logging_dir = str(folder.parent.parent / "tensorboard" / folder.name)
    return callback
