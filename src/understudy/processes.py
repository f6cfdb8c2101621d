"""Several processes under `accelerate launch`: the main one writes, the helpers train along."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta


def is_helper() -> bool:
    """Whether this process leaves writing to another."""
    return int(os.environ.get("RANK", "0")) > 0


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def main_process_first(device: str) -> AbstractContextManager[None]:
    """The main process goes through the block before the helpers enter it, and so finds nothing they did."""
    if count() < 2:
        return nullcontext()
    from accelerate import PartialState

    # Helpers wait while the main process asks the teacher, which may take hours; torch would give up after 30 minutes.
    return PartialState(cpu=device.startswith("cpu"), timeout=timedelta(days=7)).main_process_first()
