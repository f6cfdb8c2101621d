"""What each choice behind the int8 file costs and gives: the same model, quantized in other ways.

    python benchmarks/int8_variants.py MODEL VALIDATION      # a fine-tuned model or student, and rows with labels

Speed is in rows per second of one thread, the variants taking turns; agreement and quality are against the model itself. Close other
programs: only the ratios mean something.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from understudy.data.rows import read_one
from understudy.evaluation.measure import texts_of
from understudy.evaluation.speed import measure_all
from understudy.exporting import attention, folder, graph
from understudy.exporting.folder import Precision, write_export
from understudy.exporting.parity import expected
from understudy.models.text_model import TextModel
from understudy.runtime import Predictor
from understudy.settings.data import DataSettings
from understudy.tasks.classification import Classification


def embeddings_kept(quantize: Callable[..., None]) -> Callable[..., None]:
    """The quantizer, leaving the tables of embeddings in float32."""

    def other(*given: object, **settings: object) -> None:
        return quantize(*given, **{**settings, "op_types_to_quantize": ["MatMul", "Gemm", "Attention", "LSTM"]})

    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("validation")
    asked = parser.parse_args()
    from onnxruntime import quantization

    task, model = Classification(), TextModel.load(asked.model)
    rows = read_one(asked.validation, DataSettings(), task, label_names=model.label_names, labels=None)
    wanted = expected(model, rows)
    spared = graph.write_int8
    variants: dict[str, list] = {
        "float32": [],
        "int8, as shipped": [],
        "attention in many operators": [patch.object(folder, "can_fuse", lambda model: False)],
        "and the last layer whole": [patch.object(folder, "can_fuse", lambda model: False), patch.object(attention, "_FIRST_TOKEN", ())],
        "embeddings in float32": [patch.object(quantization, "quantize_dynamic", embeddings_kept(quantization.quantize_dynamic))],
        "maps from wide to narrow in float32": [
            patch.object(folder, "write_int8", lambda path, out, spare=False: spared(path, out, spare=True))
        ],
    }
    with tempfile.TemporaryDirectory() as place:
        exports, figures = {}, {}
        for name, changes in variants.items():
            precision: Precision = "float32" if name == "float32" else "int8"
            for change in changes:
                change.start()
            done = write_export(model, Path(place) / name, wanted, task, precisions=[precision], allow_loss=True)
            for change in changes:
                change.stop()
            figures[name] = done.parity[precision]
            exports[name] = Predictor(Path(place) / name, threads=1)
        speed = measure_all(exports, texts_of(rows), seconds=10)
        print("| variant | rows/s | ms (p50) | MiB | agreement | quality |\n| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, export in exports.items():
            found = figures[name]
            mib = sum(path.stat().st_size for path in export.files) / 2**20
            print(
                f"| {name} | {speed[name]['rows_per_second']:,.0f} | {speed[name]['latency_ms']['p50']:.2f} | {mib:.1f} "
                f"| {found['agreement']:.4f} | {found['export']:.4f} of {found['model']:.4f} |"
            )


if __name__ == "__main__":
    main()
