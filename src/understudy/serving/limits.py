"""Limits of a server: sizes of requests, of the queue and of batches."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import RecipeError


@dataclass(frozen=True)
class Limits:
    """Largest sizes of requests, queue and batches.

    The defaults suit texts that an encoder reads whole. Raise them for longer texts, lower them where memory is scarce. A full
    queue holds at most `queue_rows` times `max_characters` characters (of each text of a pair).

    Args:
        max_body_mib: size of a request's body, in MiB.
        max_rows: rows of a request.
        max_characters: characters of a text.
        queue_rows: rows that wait for the model; requests beyond them are refused.
        batch_rows: rows of a batch.
        wait_ms: how long an idle model waits for more rows, in milliseconds.

    Raises:
        RecipeError: a number out of its range, or a queue that the largest request does not fit into.
    """

    max_body_mib: float = 1.0
    max_rows: int = 1024
    max_characters: int = 20_000
    queue_rows: int = 2048
    batch_rows: int = 64
    wait_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_characters", "queue_rows", "batch_rows"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{_option(name)} {getattr(self, name)}: must be at least 1")
        if not 0 < self.max_body_mib < float("inf"):
            raise RecipeError(f"--max-body-mib {self.max_body_mib:g}: must be above 0")
        if not 0 <= self.wait_ms <= 1000:
            raise RecipeError(f"--wait-ms {self.wait_ms:g}: allowed are 0 to 1000")
        if self.queue_rows < self.max_rows:
            raise RecipeError(
                f"--queue-rows {self.queue_rows}: a request of --max-rows {self.max_rows} would never fit; "
                "allow as many in the queue, or fewer in a request"
            )

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mib` in bytes."""
        return int(self.max_body_mib * 2**20)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
