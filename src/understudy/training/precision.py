"""Whether a training may be in bf16: its first gradient decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

# Cosine of the bf16 gradient with the float32 gradient below which bf16 is taken to hurt. Healthy models show 0.99 and more.
LEAST_COSINE = 0.95


def bfloat16_agrees(
    model: nn.Module, loss_of: Callable[[nn.Module, Mapping[str, Tensor]], Tensor], batch: dict[str, Any], device: str
) -> bool:
    """Whether the gradient of one batch under bf16 autocast points where the float32 gradient points.

    It depends on the weights and the batch only, so that a run decides the same way every time; dropout is off while it looks.
    """
    batch = send_to_device(batch, device)
    training = model.training
    model.to(device).eval()  # type: ignore[attr-defined]
    found = []
    for enabled in (False, True):
        model.zero_grad()
        # cuDNN refuses the gradient of a recurrent layer in evaluation mode; without it, torch's own kernels give it.
        with torch.backends.cudnn.flags(enabled=False):
            with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=enabled):
                loss = loss_of(model, batch)
            loss.backward()
        found.append(
            {name: one.grad.detach().float() for name, one in model.named_parameters() if one.grad is not None}
        )
    model.zero_grad()
    model.train(training)
    exact, rough = found
    dot = sum((exact[name] * rough[name]).sum() for name in exact)
    norms = [sum(one.square().sum() for one in gradient.values()) ** 0.5 for gradient in found]
    if norms[0] == 0:
        return True
    cosine = float(dot / (norms[0] * norms[1]))  # NaN compares false, and so refuses
    return cosine >= LEAST_COSINE
