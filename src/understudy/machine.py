"""The machine of a run: its device and precision, the processes that train together, and the record of its environment."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.errors import RecipeError

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")


def find_device(device: str | None = None) -> str:
    """`cuda`, `mps` or `cpu`: the given device, or the fastest available one.

    Args:
        device: as given by the user, perhaps with a number, as `cuda:1`; None takes the fastest.

    Raises:
        RecipeError: this machine has no such device.
    """
    import torch

    available = ["cpu", *(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.backends.mps.is_available() else [])]
    if device is None:
        return available[-1]
    if device.partition(":")[0] not in available:
        raise RecipeError(f"--device {device}: this machine has {', '.join(available)}")
    return device


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware; emulated bf16 is slower than float32."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def is_helper() -> bool:
    """Whether this process is not the main one of several, which alone writes files."""
    return int(os.environ.get("RANK", "0")) > 0


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def main_process_first(device: str) -> AbstractContextManager[None]:
    """The main process runs the block before the helpers enter it, and so sees no file of theirs."""
    if process_count() < 2:
        return nullcontext()
    from accelerate import PartialState

    # Helpers wait while the main process runs the teacher, which may take hours; by default torch gives up after 30 minutes.
    return PartialState(cpu=device.startswith("cpu"), timeout=timedelta(days=7)).main_process_first()


def environment(device: str) -> dict[str, Any]:
    """Versions of Python and packages, platform, processor, cores, threads and device, as a run folder records them."""
    import torch

    packages = {"understudy": __version__}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "packages": packages,
    }


def _processor() -> str:
    """Name of the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def move(network: Any, device: Any) -> Any:
    """The network, moved to a device: a decorator of transformers hides the signature of `to` from the type checker."""
    return network.to(device)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Inside, seeds may be set; afterwards the caller's random numbers go on as if none had been drawn."""
    import random

    import numpy as np
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def reuse_memory() -> None:
    """Have glibc keep freed memory until the process ends. It changes the whole process, so only the command line calls it.

    By default glibc returns every large buffer to the system and allocates it again, page by page. With the gradient of an embedding
    table in every update, that was 4 to 6 % of the time of fine-tuning on a CPU (benchmarks/training_speed.py), at the same peak memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no buffer gets a separate mapping
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: free memory at the end of the heap is kept
