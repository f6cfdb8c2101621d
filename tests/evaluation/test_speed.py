"""What is measured, in which order, and what counts as size; never how fast this machine is."""

import itertools
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from understudy.errors import DataError
from understudy.evaluation.ngrams import NgramModel
from understudy.evaluation.speed import measure_all, orders, size
from understudy.models.text_model import TextModel
from understudy.runtime import Predictor

TEXTS = [("a film", None), ("a gripping film", None), ("a moving film of a film", None)]


@pytest.fixture
def model():
    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "film": 3, "gripping": 4}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    config = BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    return TextModel(BertForSequenceClassification(config), tokenizer, 16)


class Recorder(torch.nn.Module):
    """Stands in for a network: writes down whom it served, and how many rows."""

    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls = name, calls

    def forward(self, input_ids, **_):
        self.calls.append((self.name, len(input_ids)))
        return type("Output", (), {"logits": torch.zeros(len(input_ids), 2)})


def test_speed_is_positive_and_ordered(model):
    found = measure_all({"model": model}, TEXTS, batch_size=4, seconds=0.05)["model"]
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"]
    assert found["rows_per_second"] > 0


def test_pairs_are_read(model):
    found = measure_all({"model": model}, [("a film", "a film"), ("a", None)], seconds=0.01)
    assert found["model"]["rows_per_second"] > 0


@pytest.mark.parametrize("count", range(1, 10))
def test_every_model_comes_equally_often_in_each_place_and_after_each_other(count):
    rounds = orders([str(number) for number in range(count)])
    assert len(rounds) >= 5 and all(sorted(one) == sorted(rounds[0]) for one in rounds)
    for place in range(count):
        assert len(set(Counter(one[place] for one in rounds).values())) == 1
        assert len({one[place] for one in rounds}) == count
    pairs = Counter(pair for one in rounds for pair in itertools.pairwise(one))
    assert len(pairs) == count * (count - 1) and len(set(pairs.values())) <= 1


class Fake(Predictor):
    """An export whose clock is its own: an answer takes `cost` seconds and as much for each row."""

    def __init__(self, name, cost, clock, calls):
        self.name, self.cost, self.clock, self.calls = name, cost, clock, calls

    def logits(self, texts, pairs=None):
        self.calls.append((self.name, len(texts)))
        self.clock[0] += self.cost * (1 + len(texts))


class FakeNgrams(NgramModel):
    __init__, logits = Fake.__init__, Fake.logits


@pytest.fixture
def fakes(monkeypatch):
    """Models with a clock under control, and whom it served."""
    clock, calls = [0.0], []
    monkeypatch.setattr("understudy.evaluation.speed.time.perf_counter", lambda: clock[0])
    return lambda kind, name, cost: kind(name, cost, clock, calls), calls


def test_models_take_turns_in_every_order(fakes):
    make, calls = fakes
    measure_all({name: make(FakeNgrams, name, 1 / 64) for name in "abc"}, TEXTS[:2], batch_size=2, latency_rows=12, seconds=0.75)
    turns = [name for name, _ in itertools.groupby(name for name, _ in calls)]
    wanted = [name for name, _ in itertools.groupby(name for one in orders("abc") for name in one)]
    assert turns == wanted
    first = list(itertools.takewhile(lambda call: call[0] == calls[0][0], calls))
    rows = [rows for _, rows in first]
    # Six rounds of 1/8 s: 4 answers of 1/32 s to warm up (0.1 s), 2 timed, then a batch to warm up and 3 of 3/64 s timed.
    assert rows == [1] * (4 + 2) + [2] * (1 + 3)


def test_all_forms_get_batches_of_one_size_and_an_export_larger_ones_under_a_name_of_their_own(fakes):
    make, calls = fakes
    models = {"network": make(FakeNgrams, "network", 0.001), "export": make(Fake, "export", 0.001)}
    found = measure_all(models, TEXTS, batch_size=4, latency_rows=10, seconds=1)
    sizes = {name: Counter(rows for who, rows in calls if who == name and rows > 1) for name in models}
    assert set(sizes["network"]) == {4} and len(sizes["export"]) == 2 and min(sizes["export"]) == 4
    assert found["network"]["rows_per_second"] == found["export"]["rows_per_second"] == pytest.approx(4 / 0.005)
    assert "rows_per_second_bulk" not in found["network"]
    assert found["export"]["rows_per_second_bulk"] > 1.2 * found["export"]["rows_per_second"]


def test_what_the_model_before_left_behind_is_not_timed(fakes):
    """After another model the first answers are slow, until 50 ms have passed: no figure holds them."""
    make, calls = fakes

    class Disturbed(FakeNgrams):
        def logits(self, texts, pairs=None):
            before = list(itertools.takewhile(lambda call: call[0] == self.name, reversed(calls)))
            super().logits(texts, pairs)
            self.clock[0] += 0.01 if len(before) < 3 else 0.0

    found = measure_all({name: make(Disturbed, name, 0.001) for name in "ab"}, TEXTS, batch_size=3, seconds=1)
    for one in found.values():
        assert one["latency_ms"]["p95"] == pytest.approx(2) and one["rows_per_second_range"][0] == pytest.approx(3 / 0.004)


def test_ranges_hold_what_they_are_ranges_of(fakes):
    make, _ = fakes

    class Slower(FakeNgrams):
        def logits(self, texts, pairs=None):
            self.cost *= 1.003
            super().logits(texts, pairs)

    for one in measure_all({name: make(Slower, name, 0.001) for name in "abc"}, TEXTS, seconds=0.2).values():
        low, high = one["latency_p50_range_ms"]
        assert low < one["latency_ms"]["p50"] < high
        low, high = one["rows_per_second_range"]
        assert low < one["rows_per_second"] < high


def test_a_median_forgives_one_interruption(model, monkeypatch):
    """A clock under control: 1 ms an answer, once a whole second."""
    ticks = iter(0.001 * tick + (1 if tick > 200 else 0) for tick in range(10**7))
    monkeypatch.setattr("understudy.evaluation.speed.time.perf_counter", lambda: next(ticks))
    found = measure_all({"model": TextModel(Recorder("a", []), model.tokenizer, 16)}, TEXTS * 10, batch_size=10, seconds=0.1)["model"]
    assert found["latency_ms"] == pytest.approx({"p50": 1, "p95": 1})
    assert found["rows_per_second"] == pytest.approx(10_000)


def test_nothing_to_measure_on(model):
    with pytest.raises(DataError, match="no texts"):
        measure_all({"model": model}, [])


def test_size_is_of_what_predictions_need(model, tmp_path):
    model.save(tmp_path / "model")
    needed = [tmp_path / "model" / name for name in ("model.safetensors", "tokenizer.json")]
    (tmp_path / "model" / "optimizer.pt").write_bytes(bytes(1_000_000))
    found = size(model, tmp_path / "model")
    assert found["parameters"] == sum(parameter.numel() for parameter in model.model.parameters())
    assert found["size_mib"] == sum(path.stat().st_size for path in needed) / 2**20
    in_memory = size(model)["size_mib"]
    assert in_memory == pytest.approx(found["size_mib"], rel=0.5)
    assert in_memory * 2**20 > 4 * found["parameters"]
