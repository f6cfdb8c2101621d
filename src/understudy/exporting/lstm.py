"""The BiLSTM for ONNX: one operator for both directions."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from understudy.students.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification


class OnnxBiLSTM(BiLSTMForSequenceClassification):
    """The same outputs from the LSTM operator of ONNX; only for `torch.onnx.export`.

    The exporter writes a torch LSTM as a loop over single steps, many times slower. ONNX's own operator takes the lengths of the rows,
    and so starts the backward direction at each row's own end by itself. ONNX Runtime's quantizer knows it, too.
    """

    def __init__(self, model: BiLSTMForSequenceClassification) -> None:
        super().__init__(cast(BiLSTMConfig, model.config))
        self.load_state_dict(model.state_dict())
        directions: Any = (self.forward_lstm, self.backward_lstm)
        # Made here and not in `encode`, so that the graph holds the weights themselves and no sums over them.
        self.register_buffer("input_weights", torch.stack([_gates(lstm.weight_ih_l0) for lstm in directions]))
        self.register_buffer("hidden_weights", torch.stack([_gates(lstm.weight_hh_l0) for lstm in directions]))
        self.register_buffer("biases", torch.stack([torch.cat([_gates(lstm.bias_ih_l0), _gates(lstm.bias_hh_l0)]) for lstm in directions]))
        del self.forward_lstm, self.backward_lstm

    def encode(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        embedded = self.embedding(input_ids).transpose(0, 1)
        steps, texts, _ = embedded.shape
        size = self.config.hidden_size
        weights: Any = (self.input_weights, self.hidden_weights, self.biases)
        _, ends, _ = torch.onnx.ops.symbolic_multi_out(
            "LSTM",
            (embedded, *weights, lengths.clamp(min=1).to(torch.int32)),
            {"direction": "bidirectional", "hidden_size": size},
            dtypes=(torch.float32,) * 3,
            shapes=((steps, 2, texts, size), (2, texts, size), (2, texts, size)),
        )
        return ends.transpose(0, 1).reshape(-1, 2 * size)


def _gates(weights: nn.Parameter) -> Tensor:
    """Input, forget, cell, output → input, output, forget, cell."""
    into, forget, cell, out = weights.detach().chunk(4)
    return torch.cat([into, out, forget, cell])
