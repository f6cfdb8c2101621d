"""What is measured, in which order, and what counts as size; never how fast this machine is."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from understudy.errors import DataError
from understudy.evaluate.speed import measure_all, measure_speed, size
from understudy.text_model import TextModel

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
    found = measure_speed(model, TEXTS, batch_size=4, seconds=0.05)
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"]
    assert found["rows_per_second"] > 0


def test_pairs_are_read(model):
    assert measure_speed(model, [("a film", "a film"), ("a", None)], seconds=0.01)["rows_per_second"] > 0


def test_models_take_turns(model):
    calls = []
    recorders = {name: TextModel(Recorder(name, calls), model.tokenizer, 16) for name in "ab"}
    measure_all(recorders, TEXTS, batch_size=2, latency_rows=10, seconds=1)
    warm, turns = calls[:10], [name for name, _ in calls[10:]]
    assert [name for name, _ in warm] == ["a"] * 5 + ["b"] * 5
    changes = [name for name, before in zip(turns, ["", *turns], strict=False) if name != before]
    assert changes == ["a", "b"] * 10  # five rounds of latency and of throughput
    alone = {name: sum(rows == 1 for who, rows in calls[10:] if who == name) for name in "ab"}
    assert min(alone.values()) >= 10


def test_a_median_forgives_one_interruption(model, monkeypatch):
    """A clock under control: 1 ms an answer, once a whole second."""
    ticks = iter(0.001 * tick + (1 if tick > 200 else 0) for tick in range(10**7))
    monkeypatch.setattr("understudy.evaluate.speed.time.perf_counter", lambda: next(ticks))
    found = measure_speed(TextModel(Recorder("a", []), model.tokenizer, 16), TEXTS * 10, batch_size=10, seconds=0.1)
    assert found["latency_ms"] == pytest.approx({"p50": 1, "p95": 1})
    assert found["rows_per_second"] == pytest.approx(10_000)


def test_nothing_to_measure_on(model):
    with pytest.raises(DataError, match="no texts"):
        measure_speed(model, [])


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
