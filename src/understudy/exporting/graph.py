"""A model as an ONNX graph, and that graph with its weights in 8 bits."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import ExportError, ModelError
from understudy.installation import install_command

if TYPE_CHECKING:
    from torch import Tensor, nn

    from understudy.models.text_model import TextModel

# The newest that onnxruntime has run for years; nothing in these models needs a newer one.
OPSET = 20


def model_inputs(model: TextModel, *, pair: bool) -> list[str]:
    """What the model is given of a row, in the order of the graph's inputs; as in training."""
    types = ["token_type_ids"] if pair and "token_type_ids" in model.view.inputs else []
    return ["input_ids", "attention_mask", *types]


def write_graph(model: TextModel, path: Path, *, pair: bool, fused: bool = False) -> None:
    """Write a model as ONNX: any number of rows of any length in, `logits` out.

    Args:
        fused: attention as one operator that onnxruntime alone has, in a family that `attention.can_fuse`.

    Raises:
        ModelError: the extra `export` is not installed.
        ExportError: the exporter of torch cannot express this model.
    """
    need_exporter()
    import torch

    names = model_inputs(model, pair=pair)
    ids = torch.full((3, min(8, model.max_length)), model.tokenizer.pad_token_id or 0)
    ids[:, :] = torch.arange(ids.shape[1]) % max(1, len(model.tokenizer))
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    mask[1, -2:] = 0
    types[:, 3:] = 1
    example = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types * mask}
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    try:
        with _quietly():
            program: Any = torch.onnx.export(
                _logits_only(model, names, fused=fused),
                tuple(example[name] for name in names),
                input_names=names,
                output_names=["logits"],
                dynamo=True,
                dynamic_shapes=(tuple(shape for _ in names),),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever stopped it, and its first lines are about how to report it
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(f"{type(model.model).__name__}: torch cannot write it as ONNX: {reason}") from error
    _forget_origin(program.model)
    program.save(str(path))


def write_int8(path: Path, quantized: Path, *, spare: bool = False) -> None:
    """Quantize a graph: weights and embeddings in 8 bits, one scale a column, activations as they come (dynamic).

    Args:
        spare: leave the maps from wide to narrow in float32, a feed-forward layer's second one among them: what comes out of a wide
            layer has the outliers that 8 bits serve worst.

    Raises:
        ModelError: the extra `export` is not installed.
    """
    need_exporter()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(path)
    sizes = {weight.name: weight.dims for weight in graph.graph.initializer}
    narrowing = [
        node.name
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and len(size := sizes.get(node.input[1], ())) == 2 and size[0] > size[1]
    ]
    del graph.graph.value_info[:]  # shapes as the torch exporter wrote them stop the quantizer, which infers its own
    with _quietly():
        # Weights in 7 of the 8 bits: processors without VNNI instructions overflow on all 8, and an export may be run anywhere. On nine
        # trained models it changed the mean error of the logits by −9 to +5 %.
        quantize_dynamic(
            graph,
            str(quantized),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=narrowing if spare else [],
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # of what fused operators give


def need_exporter() -> None:
    """Refuse where what exporting needs is missing.

    Raises:
        ModelError: naming the extra.
    """
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModelError(f"exporting needs {' and '.join(missing)}, not installed here; run: {install_command('export')}")


def _logits_only(model: TextModel, names: list[str], *, fused: bool) -> nn.Module:
    """The model with its inputs in a row, in the form in which it exports best."""
    import torch

    from understudy.exporting.attention import lean
    from understudy.exporting.lstm import OnnxBiLSTM
    from understudy.students.bilstm import BiLSTMForSequenceClassification

    network: Any = model.model
    network = OnnxBiLSTM(network) if isinstance(network, BiLSTMForSequenceClassification) else lean(network, fused=fused)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network

        def forward(self, *inputs: Tensor) -> Tensor:
            return self.model(**dict(zip(names, inputs, strict=True))).logits

    return Logits().eval()


def _forget_origin(graph_of: Any) -> None:
    """Drop what the exporter notes of every node: lines of source code with this machine's paths, larger than a small model."""
    for graph in graph_of.graphs():
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    value.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
    graph_of.metadata_props.clear()
    graph_of.doc_string = None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not installed, and the quantizer's advice."""
    # The exporter's loggers stand below these; the quantizer writes to the root itself.
    remarking = {logger: logger.level for logger in map(logging.getLogger, ("torch.onnx", "onnxscript", "onnx_ir"))}
    logging.root.addFilter(_is_error)
    for logger in remarking:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.removeFilter(_is_error)
        for logger, level in remarking.items():
            logger.setLevel(level)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
