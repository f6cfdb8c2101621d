"""How fast and how large a model is, on the processor at hand, tokenization included."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from understudy.errors import DataError
from understudy.runtime import Predictor

if TYPE_CHECKING:
    from understudy.text_model import TextModel

    Text = tuple[str, str | None]  # a text and its pair
    Model = TextModel | Predictor

_ROUNDS = 5
_SAMPLE_ROWS = 2048
_MANY = 128  # batches that an export is given at once, at most; predict gives it as many
_MIB = 2**20


def measure_speed(
    model: Model, texts: Sequence[Text], *, batch_size: int = 32, device: Any = "cpu", seconds: float = 2.5
) -> dict[str, Any]:
    """Latency and throughput of one model; as `measure_all`, which is the fair way to compare several."""
    return measure_all({"model": model}, texts, batch_size=batch_size, device=device, seconds=seconds)["model"]


def measure_all(
    models: Mapping[str, Model],
    texts: Sequence[Text],
    *,
    batch_size: int = 32,
    device: Any = "cpu",
    latency_rows: int = 100,
    seconds: float = 2.5,
) -> dict[str, dict[str, Any]]:
    """Latency of one row (ms) and throughput in batches (rows per second) of several models, from text to logits.

    After a warm-up the models take turns, A B C A B C, so that a machine that slows down does so for all of them.
    Throughput is over batches of rows of like length, in random order of length, and the median of the rounds; an export, which makes
    its batches itself, is given many at once, as `predict` does. Give both the same threads: `torch.get_num_threads()` for
    `Predictor(threads=…)`.

    Args:
        models: torch models or exports, by name.
        texts: real rows, (text, pair or None); a sample of at most 2,048 is used, and repeated where there are too few.
        latency_rows: rows timed one by one for each model, if time allows.
        seconds: of latency, and again of throughput, for each model; a round takes at least one row and one batch.

    Raises:
        DataError: no texts.

    Returns:
        name → {"latency_ms": {"p50", "p95"}, "latency_p50_range_ms", "rows_per_second", "rows_per_second_range"}; the ranges are
        the lowest and the highest of the rounds.
    """
    import numpy as np

    if not texts:
        raise DataError("no texts to measure the speed on; give at least one row")
    sample = random.Random(0).sample(list(texts), min(len(texts), _SAMPLE_ROWS))
    batches = _batches(sample, batch_size)
    lone = {name: cycle(sample) for name in models}
    answers = {name: answering(model, device) for name, model in models.items()}
    turns = {
        name: _turns(model, batches, seconds / _ROUNDS / _warmed(answers[name], batches))
        for name, model in models.items()
    }

    latencies: dict[str, list[list[float]]] = {name: [] for name in models}
    throughputs: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(_ROUNDS):
        for name, answer in answers.items():
            _seconds(answer, sample[:1])  # the model before has taken the processor's caches
            spent = 0.0
            latencies[name].append([])
            for row in islice(lone[name], -(-latency_rows // _ROUNDS)):
                latencies[name][-1].append(1000 * _seconds(answer, [row]))
                spent += latencies[name][-1][-1] / 1000
                if spent > seconds / _ROUNDS:
                    break
        for name, answer in answers.items():
            rows, spent = 0, 0.0
            while spent < seconds / _ROUNDS:
                batch = next(turns[name])
                spent += _seconds(answer, batch)
                rows += len(batch)
            throughputs[name].append(rows / spent)
    for model in models.values():
        if not isinstance(model, Predictor):
            model.model.to("cpu")  # type: ignore[arg-type]
    found = {}
    for name in models:
        p50, p95 = np.percentile(np.concatenate(latencies[name]), [50, 95]).tolist()
        medians = [median(one) for one in latencies[name]]
        found[name] = {
            "latency_ms": {"p50": p50, "p95": p95},
            "latency_p50_range_ms": [min(medians), max(medians)],
            "rows_per_second": median(throughputs[name]),
            "rows_per_second_range": [min(throughputs[name]), max(throughputs[name])],
        }
    return found


def size(model: Model, folder: str | Path | None = None) -> dict[str, Any]:
    """Number of parameters, and what the model takes on disk: weights and tokenizer, in MiB.

    Args:
        folder: where a torch model lies; None counts the weights in memory and the tokenizer as it would be written.
    """
    if isinstance(model, Predictor):
        files = sum(path.stat().st_size for path in model.files)
        return {"parameters": model.about.get("parameters"), "size_mib": files / _MIB}
    if folder is None:
        tensors = {tensor.data_ptr(): tensor for tensor in model.model.state_dict().values()}  # shared ones once
        weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        files = weights + len(model.tokenizer.backend_tokenizer.to_str().encode())
    else:
        files = sum(path.stat().st_size for path in _needed(Path(folder)))
    return {"parameters": model.parameters, "size_mib": files / _MIB}


def _needed(folder: Path) -> list[Path]:
    """The files that predictions need. Slow tokenizers' vocabularies beside a tokenizer.json are duplicates of it."""
    tokenizer = [folder / "tokenizer.json"]
    if not tokenizer[0].is_file():
        tokenizer = [path for pattern in ("vocab.*", "merges.txt", "*.model") for path in folder.glob(pattern)]
    return [*folder.glob("*.safetensors"), *tokenizer]


def _batches(sample: list[Text], batch_size: int) -> list[list[Text]]:
    """Batches of rows of like length, shuffled: a slow model that sees only some of them still sees every length."""
    ordered = sorted(sample, key=lambda row: len(row[0]) + len(row[1] or ""))
    ordered = list(islice(cycle(ordered), max(batch_size, len(ordered))))
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    random.Random(0).shuffle(batches)
    return batches


def _warmed(answer: Callable[[Sequence[Text]], Any], batches: list[list[Text]]) -> float:
    """Seconds that a batch takes, after a few."""
    for rows in (*[batches[0][:1]] * 3, batches[0]):
        answer(rows)
    return _seconds(answer, batches[0])


def _turns(model: Model, batches: list[list[Text]], affordable: float) -> Iterator[list[Text]]:
    """What a model is given at once, without end: a batch; an export as many as a round has time for."""
    endless = cycle(batches)
    many = max(1, min(_MANY, int(affordable))) if isinstance(model, Predictor) else 1
    while True:
        yield [row for batch in islice(endless, many) for row in batch]


def answering(model: Model, device: Any = "cpu") -> Callable[[Sequence[Text]], Any]:
    """The model as a function from texts to logits that lie in memory."""
    if isinstance(model, Predictor):

        def answer(rows: Sequence[Text]) -> Any:
            pairs = [pair or "" for _, pair in rows] if any(pair is not None for _, pair in rows) else None
            return model.logits([text for text, _ in rows], pairs)

        return answer
    import torch

    model.model.to(device).eval()  # type: ignore[arg-type]

    def answer_by_torch(rows: Sequence[Text]) -> Any:
        pairs = [pair or "" for _, pair in rows] if any(pair is not None for _, pair in rows) else None
        inputs = model.tokenizer(
            [text for text, _ in rows], pairs,
            truncation=True, max_length=model.max_length, padding=True, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            return model.model(**inputs.to(device)).logits.cpu()  # the copy waits for a GPU to finish

    return answer_by_torch


def _seconds(answer: Callable[[Sequence[Text]], Any], rows: Sequence[Text]) -> float:
    start = time.perf_counter()
    answer(rows)
    return time.perf_counter() - start
