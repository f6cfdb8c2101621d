"""Tiny models and rows that every test can afford: a vocabulary of a few words and all letters, transformers 16 wide."""

import json
import random
import string
from pathlib import Path
from unittest import mock

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from understudy.evaluation import speed
from understudy.models.text_model import TextModel, set_label_names

TEXTS = (
    "a gripping film and a moving one",
    "a dull film",
    "the plot is thin , the jokes are thinner",
    "good fun for the whole family , and then some more",
    "not good",
    "one of the best of the year",
)
SECOND_TEXTS = ("a film that moves", "a bright film", "no plot", "fun", "the family is good", "the worst of all the years")
LABELS = ("bad", "good")

# A task that a tiny model learns in a second: a row is good when it has more of these words than of those.
GOOD, BAD = ("best", "bright", "fun", "gripping", "moving"), ("dull", "no", "not", "thin", "worst")
OTHER = ("a", "film", "the", "family", "plot", "and", "of", "year", "one", "jokes", "is", "all")


def tiny_tokenizer() -> BertTokenizer:
    words = sorted({word for text in TEXTS + SECOND_TEXTS for word in text.split()} | {"never", "used", "words"})
    letters = [prefix + letter for letter in string.ascii_lowercase for prefix in ("", "##")]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", *dict.fromkeys(letters + words)]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}, model_max_length=64)


def tiny_teacher(*, label_names: tuple[str, ...] | None = LABELS, layers: int = 3, seed: int = 7) -> TextModel:
    """A transformer of random weights."""
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    config.num_labels = len(label_names or "1")
    config.problem_type = "regression" if label_names is None else "single_label_classification"
    if label_names:
        set_label_names(config, label_names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TextModel(BertForSequenceClassification(config).eval(), tokenizer, 64)


SIZES = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
DISTILBERT = {
    "vocab_size": SIZES["vocab_size"],
    "dim": 16,
    "n_layers": 3,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
CONFIGS = {
    "Bert": SIZES,
    "Roberta": SIZES,
    "XLMRoberta": SIZES,
    "DistilBert": DISTILBERT,
    "Electra": SIZES | {"embedding_size": 8},
    "MPNet": SIZES,
    "ModernBert": SIZES | {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 4},
    "DebertaV2": SIZES,
}
# Those that are only loaded and asked, not looked into.
OTHER_CONFIGS = {
    "Albert": SIZES | {"embedding_size": 8},
    "Bart": {
        "vocab_size": SIZES["vocab_size"],
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "decoder_start_token_id": 3,
        "init_std": 0.2,
    },
    "GPT2": {"vocab_size": SIZES["vocab_size"], "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.2},
    "Longformer": SIZES | {"attention_window": 4},
    "Qwen2": SIZES | {"num_key_value_heads": 2},
    "OPT": SIZES | {"word_embed_proj_dim": 16, "ffn_dim": 32},
    "Bloom": SIZES | {"n_layer": 2, "n_head": 2},
}


def family(name: str, **changed) -> TextModel:
    """A tiny model of a family of `transformers`, with the tokenizer of them all; `changed` in its config."""
    import transformers
    from transformers import AutoModelForSequenceClassification

    settings = (CONFIGS | OTHER_CONFIGS).get(name, SIZES) | changed
    config = getattr(transformers, f"{name}Config")(**settings, num_labels=2, id2label=dict(enumerate(LABELS)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, dtype="float32").eval()
    tokenizer = tiny_tokenizer()
    if name in ("Roberta", "XLMRoberta", "DistilBert", "MPNet", "ModernBert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return TextModel(model, tokenizer, 32)


def tiny_rows(count: int, *, seed: int = 0, pair: bool = False, number: bool = False) -> list[dict]:
    """Rows of the tiny task, as many good as bad, no text twice.

    Args:
        pair: the words that decide are in `text_pair`.
        number: the label is how many good words there are more than bad ones.
    """
    draw = random.Random(seed)
    rows: dict[str, dict] = {}
    while len(rows) < count:
        good = len(rows) % 2 == 0
        deciding = draw.choices(GOOD if good else BAD, k=draw.randint(1, 3))
        words = deciding + draw.choices(OTHER, k=draw.randint(2, 9))
        draw.shuffle(words)
        balance = float(len(deciding) if good else -len(deciding))
        label = balance if number else LABELS[good]
        second = {"text_pair": " ".join(words)} if pair else {}
        text = " ".join(draw.choices(OTHER, k=3)) if pair else " ".join(words)
        rows.setdefault(" ".join(words), {"text": text, **second, "label": label})
    return list(rows.values())


def trained_teacher(rows: list[dict], *, steps: int = 80) -> TextModel:
    """A tiny teacher that knows its rows."""
    number = isinstance(rows[0]["label"], float)
    teacher = tiny_teacher(label_names=None if number else LABELS)
    pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    batch = teacher.tokenizer([row["text"] for row in rows], pairs, padding=True, return_tensors="pt")
    labels = torch.tensor([row["label"] if number else LABELS.index(row["label"]) for row in rows])
    optimizer = torch.optim.AdamW(teacher.model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        teacher.model(**batch, labels=labels).loss.backward()
        optimizer.step()
    return teacher


def speed_in_a_blink(models, texts, **settings):
    """`measure_all` with one row and one batch a model."""
    with mock.patch.object(speed, "orders", lambda names: [list(names)]), mock.patch.object(speed, "_WARM_ANSWERS", 1):
        return speed.measure_all(models, texts, **settings, latency_rows=1, seconds=0.0)


def write_rows(path: Path, rows: list[dict]) -> str:
    """Write JSON Lines; returns the path as a command takes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def encode(student: TextModel, texts=TEXTS, second_texts=None, **settings):
    """A padded batch of the student's own view of the texts."""
    settings = {"padding": True, "return_tensors": "pt"} | settings
    return student.tokenizer(list(texts), None if second_texts is None else list(second_texts), **settings)


@torch.no_grad()
def logits(student: TextModel, texts=TEXTS, second_texts=None, **settings) -> torch.Tensor:
    return student.model(**encode(student, texts, second_texts, **settings)).logits
