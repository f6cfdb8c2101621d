"""The machine that a run is on: its device and precision, the processes that train together, and what is recorded of it."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.errors import RecipeError

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")


def find_device(asked: str | None = None) -> str:
    """`cuda`, `mps` or `cpu`: what was asked for, or the fastest there is.

    Raises:
        RecipeError: asked for a device that this machine does not have.
    """
    import torch

    there = [
        "cpu",
        *(["cuda"] if torch.cuda.is_available() else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
    if asked is None:
        return there[-1]
    if asked.partition(":")[0] not in there:
        raise RecipeError(f"--device {asked}: this machine has {', '.join(there)}")
    return asked


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware; emulated bf16 is slower than float32."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def is_helper() -> bool:
    """Whether this process leaves writing to another."""
    return int(os.environ.get("RANK", "0")) > 0


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def main_process_first(device: str) -> AbstractContextManager[None]:
    """The main process goes through the block before the helpers enter it, and so finds nothing they did."""
    if process_count() < 2:
        return nullcontext()
    from accelerate import PartialState

    # Helpers wait while the main process asks the teacher, which may take hours; torch would give up after 30 minutes.
    return PartialState(cpu=device.startswith("cpu"), timeout=timedelta(days=7)).main_process_first()


def environment(device: str) -> dict[str, Any]:
    """Versions and machine."""
    import torch

    packages = {"understudy": __version__}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(), "platform": platform.platform(), "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(), "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "packages": packages,
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def reuse_memory() -> None:
    """Have glibc keep the memory that it frees, for as long as the process lives: for a process of our own, as the command line's.

    By default it gives every large buffer back to the system and takes it anew, page by page. With the gradient of an embedding table in
    every update, that was 4 to 6 % of the time of fine-tuning on a processor (benchmarks/training_speed.py), at the same peak memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no buffer is a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is free at the end of the heap stays
