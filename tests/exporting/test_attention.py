"""A lean graph says what the model says, in every family that has one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tiny import CONFIGS, SECOND_TEXTS, TEXTS, family, logits
from understudy.exporting.attention import can_fuse
from understudy.exporting.graph import model_inputs, write_graph

PLAIN = ("Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra")


@pytest.mark.parametrize("name", PLAIN)
def test_the_fused_graph_answers_as_the_model(name, tmp_path):
    import onnxruntime

    model = family(name, **{"n_layers" if name == "DistilBert" else "num_hidden_layers": 2})
    pair = "token_type_ids" in model.tokenizer.model_input_names
    assert can_fuse(model.model)
    write_graph(model, tmp_path / "fused.onnx", pair=pair, fused=True)
    assert "MultiHeadAttention" in {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    second = list(SECOND_TEXTS) if pair else None
    batch = model.tokenizer(list(TEXTS), second, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(tmp_path / "fused.onnx", providers=["CPUExecutionProvider"])
    given = {one: batch[one].astype(np.int64) for one in model_inputs(model, pair=pair)}
    wanted = logits(model, second_texts=second).numpy()
    assert np.ptp(wanted) > 0.05  # a head that hears nothing would agree with anything
    np.testing.assert_allclose(session.run(["logits"], given)[0], wanted, atol=1e-5)
    np.testing.assert_array_equal(logits(model, second_texts=second).numpy(), wanted)  # the model itself is left as it was


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(PLAIN)))
def test_attention_with_a_bias_or_a_window_is_left_alone(name):
    assert not can_fuse(family(name).model)
