"""The length of a training, in updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.machine import process_count
from understudy.settings.stage import TrainSettings

PATIENCE = 4  # evaluations, where a training goes on after its epochs


@dataclass(frozen=True)
class Length:
    """The length of a training.

    Args:
        updates: the most that are made.
        patience: evaluations without improvement after which it stops; None: it does not stop early.
        by_epochs: whether the number of epochs determines the length, and not a number of updates.
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


def length(rows: Sequence[int], settings: TrainSettings) -> Length:
    """The length of a training.

    Args:
        rows: number of rows of each task; the least number of updates is multiplied by the number of tasks.

    >>> length([100], TrainSettings(epochs=2, batch_size=32))
    Length(updates=8, patience=None, by_epochs=True)
    >>> length([100, 20], TrainSettings(epochs=2, batch_size=32)).updates
    10
    """
    assert settings.epochs, "settings must be resolved"
    in_epochs = math.ceil(sum(updates_in_epoch(count, settings) for count in rows) * settings.epochs)
    least = least_updates(settings) * len(rows)
    updates = settings.max_steps or max(in_epochs, least)
    patience = settings.patience or (PATIENCE if updates <= least else None)
    return Length(updates, patience, by_epochs=not settings.max_steps and in_epochs >= least)


def updates_in_epoch(rows: int, settings: TrainSettings) -> int:
    """Updates that show each row of a task once; with several processes, each update takes a batch from each."""
    assert settings.batch_size, "settings must be resolved"
    return math.ceil(rows / (settings.batch_size * settings.accumulation * process_count()))


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """`total` updates shared out among tasks in proportion to their weights: at least one each, by the largest remainders.

    >>> shared_out(20, [1.0, 8.0]), shared_out(10, [1.0, 1.0, 1.0])
    ([2, 18], [4, 3, 3])
    """
    exact = [total * weight / sum(weights) for weight in weights]
    shares = [max(math.floor(share), 1) for share in exact]
    while (left := total - sum(shares)) != 0:
        step = 1 if left > 0 else -1
        able = [place for place in range(len(shares)) if step > 0 or shares[place] > 1]
        shares[max(able, key=lambda place: step * (exact[place] - shares[place]))] += step
    return shares


def least_updates(settings: TrainSettings) -> int:
    return settings.min_updates or 0
