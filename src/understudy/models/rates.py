"""The learning rate that an encoder is fine-tuned at where none is given."""

from __future__ import annotations

from understudy.errors import ModelError
from understudy.models.folder import find_folder
from understudy.models.loading import read_config

RATE, WIDTH = 5e-5, 768  # the middle of what Devlin et al. 2019 try for BERT-base, appendix A.3


def rate_for(width: int | None) -> float:
    """A learning rate in inverse proportion to an encoder's width; of an encoder whose width is not known, that of BERT-base.

    Small encoders want a higher rate: Turc et al. 2019, arXiv:1908.08962, section 4, found up to 3e-4 best for 128, and docs/results.md
    shows it for 384.

    >>> rate_for(768), rate_for(384), rate_for(128), rate_for(1024)
    (5e-05, 0.0001, 0.0003, 3.8e-05)
    """
    return float(f"{RATE * WIDTH / (width or WIDTH):.1e}")


def width_of(model: str) -> int | None:
    """The width of an encoder in a folder or on the hub; None where the config has none, or cannot be read (loading reports why)."""
    try:
        width = getattr(read_config(find_folder(model), head=False), "hidden_size", None)
    except ModelError:
        return None
    return width if isinstance(width, int) and width > 0 else None
