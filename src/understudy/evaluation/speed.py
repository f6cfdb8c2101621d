"""How fast and how large a model is, on the processor at hand, tokenization included."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from understudy.errors import DataError
from understudy.evaluation.ngrams import NgramModel
from understudy.runtime import Predictor

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel

    Text = tuple[str, str | None]  # a text and its pair
    Model: TypeAlias = TextModel | Predictor | NgramModel

_ROUNDS = 5  # at least
_SAMPLE_ROWS = 2048
_BULK = 128  # batches that an export is given at once, at most; predict gives it as many
_WARM_ANSWERS = 3  # before each turn, at least
_WARM_SECONDS = 0.1  # or as long as a round, where that is less; the threads of the model before spin on for so long
_MIB = 2**20


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

    The models take turns in rounds. From round to round the order changes so that each comes equally often in each place and after each
    other model (`orders`), and a turn begins with answers that are not timed: what the model before left behind (its caches, its
    threads that still spin) weighs on no model more than on the others. Throughput is over batches of rows of similar length, the same for
    all models. An export can also be given many batches at once, as `predict` does: that is `rows_per_second_bulk`. Give all the same
    threads: `torch.get_num_threads()` for `Predictor(threads=…)`.

    Args:
        models: torch models, exports or the n-gram baseline, by name.
        texts: real rows, (text, pair or None); a sample of at most 2,048 is used, and repeated where there are too few.
        latency_rows: rows timed one by one for each model, if time allows.
        seconds: of latency, and again of throughput, for each model; a round takes at least one row and one batch.

    Raises:
        DataError: no texts.

    Returns:
        name → {"latency_ms": {"p50", "p95"}, "latency_p50_range_ms", "rows_per_second", "rows_per_second_range"}, of an export also
        "rows_per_second_bulk"; the ranges are the lowest and the highest of the rounds, the others medians over all of them.
    """
    if not texts:
        raise DataError("no texts to measure the speed on; give at least one row")
    if not models:
        return {}
    sample = random.Random(0).sample(list(texts), min(len(texts), _SAMPLE_ROWS))
    batches = _batches(sample, batch_size)
    rounds = orders(list(models))
    clocks = {
        name: _Clock(
            answering(model, device),
            isinstance(model, Predictor),
            sample,
            batches,
            rows=-(-latency_rows // len(rounds)),
            seconds=seconds / len(rounds),
        )
        for name, model in models.items()
    }
    for order in rounds:
        for name in order:
            clocks[name].take_turn()
    for model in models.values():
        if not isinstance(model, Predictor | NgramModel):
            model.model.to("cpu")  # type: ignore[arg-type]
    return {name: clock.figures() for name, clock in clocks.items()}


def orders(names: Sequence[str]) -> list[list[str]]:
    """The order of turns in each round: at least five rounds, in which each name comes equally often in each place and, within rounds,
    equally often after each other.

    >>> orders(["a", "b"])[:2]
    [['a', 'b'], ['b', 'a']]

    Source: Williams 1949, Australian Journal of Scientific Research A 2 (designs balanced for residual effects).
    """
    count = len(names)
    first = [0]
    for step in range(1, count):  # 0, 1, n − 1, 2, n − 2, …: every difference once
        first.append((first[-1] + (step if step % 2 else -step)) % count)
    square = [[names[(place + shift) % count] for place in first] for shift in range(count)]
    if count % 2 and count > 1:
        square += [row[::-1] for row in square]
    return square * -(-_ROUNDS // len(square))


class _Clock:
    """One model's turns, and how long they took.

    Args:
        answer: the model, from rows to logits.
        bulk: whether it can be given many batches at once.
        rows: timed one by one in a turn, at most.
        seconds: of latency, and again of throughput, in a turn.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Text]], Any],
        bulk: bool,
        sample: list[Text],
        batches: list[list[Text]],
        *,
        rows: int,
        seconds: float,
    ) -> None:
        self.answer, self.bulk, self.rows, self.seconds = answer, bulk, rows, seconds
        self.lone, self.batches, self.many = cycle(sample), cycle(batches), cycle(batches)
        self.latencies: list[list[float]] = []
        self.throughputs: list[float] = []
        self.bulks: list[float] = []

    def take_turn(self) -> None:
        """Warm up, then single rows, then batches, and of an export many batches at once."""
        warm, answers = 0.0, 0
        while answers < _WARM_ANSWERS or warm < min(_WARM_SECONDS, self.seconds):
            warm += _seconds(self.answer, [next(self.lone)])
            answers += 1
        spent, latencies = 0.0, []
        for row in islice(self.lone, self.rows):
            latencies.append(_seconds(self.answer, [row]))
            spent += latencies[-1]
            if spent > self.seconds:
                break
        self.latencies.append([1000 * latency for latency in latencies])
        a_batch = _seconds(self.answer, next(self.batches))  # not counted
        self.throughputs.append(self._throughput(self.batches, 1))
        if self.bulk:
            self.bulks.append(self._throughput(self.many, max(1, min(_BULK, int(self.seconds / max(a_batch, 1e-9))))))

    def _throughput(self, batches: Iterator[list[Text]], at_once: int) -> float:
        rows, spent = 0, 0.0
        while spent < self.seconds or not rows:
            texts = [row for batch in islice(batches, at_once) for row in batch]
            spent += _seconds(self.answer, texts)
            rows += len(texts)
        return rows / spent

    def figures(self) -> dict[str, Any]:
        """Latencies in ms and throughputs in rows per second, over all turns."""
        import numpy as np

        p50, p95 = np.percentile(np.concatenate(self.latencies), [50, 95]).tolist()
        medians = [*(median(turn) for turn in self.latencies), p50]
        figures = {
            "latency_ms": {"p50": p50, "p95": p95},
            "latency_p50_range_ms": [min(medians), max(medians)],
            "rows_per_second": median(self.throughputs),
            "rows_per_second_range": [min(self.throughputs), max(self.throughputs)],
        }
        return figures | ({"rows_per_second_bulk": median(self.bulks)} if self.bulks else {})


def size(model: Model, folder: str | Path | None = None) -> dict[str, Any]:
    """Number of parameters, and what the model takes on disk: weights and tokenizer, in MiB.

    Args:
        folder: where a torch model is saved; None counts the weights in memory and the tokenizer as it would be written.
    """
    if isinstance(model, NgramModel):
        return {"parameters": model.parameters, "size_mib": model.size_mib}
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
    """Batches of rows of similar length, shuffled: a slow model that sees only some of them still sees every length."""
    ordered = sorted(sample, key=lambda row: len(row[0]) + len(row[1] or ""))
    ordered = list(islice(cycle(ordered), max(batch_size, len(ordered))))
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    random.Random(0).shuffle(batches)
    return batches


def answering(model: Model, device: Any = "cpu") -> Callable[[Sequence[Text]], Any]:
    """The model as a function from texts to logits in memory."""
    if isinstance(model, Predictor | NgramModel):

        def answer(rows: Sequence[Text]) -> Any:
            pairs = [pair or "" for _, pair in rows] if any(pair is not None for _, pair in rows) else None
            return model.logits([text for text, _ in rows], pairs)

        return answer
    import torch

    from understudy.data.examples import batch_of

    model.model.to(device).eval()  # type: ignore[arg-type]

    def answer_by_torch(rows: Sequence[Text]) -> Any:
        pairs = [pair or "" for _, pair in rows] if any(pair is not None for _, pair in rows) else None
        fields, _ = model.view.encode([text for text, _ in rows], pairs)
        inputs = {name: field.to(device) for name, field in batch_of(fields, range(len(rows))).items()}
        with torch.inference_mode():
            return model.model(**inputs).logits.cpu()  # the copy waits for a GPU to finish

    return answer_by_torch


def _seconds(answer: Callable[[Sequence[Text]], Any], rows: Sequence[Text]) -> float:
    start = time.perf_counter()
    answer(rows)
    return time.perf_counter() - start
