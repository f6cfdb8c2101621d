"""Whether a training can be in bf16, by the gradient of its first batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

# Cosine of the bf16 gradient with the float32 gradient below which bf16 is refused. Working models have 0.99 and more.
LEAST_COSINE = 0.95


def bfloat16_agrees(
    model: nn.Module, loss_of: Callable[[nn.Module, Mapping[str, Tensor]], Tensor], batch: dict[str, Any], device: str
) -> bool:
    """Whether the gradient of one batch under bf16 autocast has the direction of the float32 gradient.

    The decision depends on the weights and the batch only, so that it is the same whenever a run is repeated; dropout is off for it.
    """
    batch = send_to_device(batch, device)
    training = model.training
    model.to(device).eval()  # type: ignore[attr-defined]
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        # cuDNN refuses the gradient of a recurrent layer in evaluation mode; torch's own kernels compute it.
        with torch.backends.cudnn.flags(enabled=False):
            with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=enabled):
                loss = loss_of(model, batch)
            loss.backward()
        gradients.append({name: weight.grad.detach().float() for name, weight in model.named_parameters() if weight.grad is not None})
    model.zero_grad()
    model.train(training)
    exact, rough = gradients
    dot = sum((exact[name] * rough[name]).sum() for name in exact)
    norms = [sum(part.square().sum() for part in gradient.values()) ** 0.5 for gradient in gradients]
    if norms[0] == 0:
        return True
    cosine = float(dot / (norms[0] * norms[1]))  # NaN is not >=, so it is refused
    return cosine >= LEAST_COSINE
