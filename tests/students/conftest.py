"""A tiny teacher of random weights, with a tokenizer of a few words and all letters."""

import string
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from understudy import parts
from understudy.students import Blueprint
from understudy.text_model import TextModel, set_label_names

TEXTS = (
    "a gripping film and a moving one",
    "a dull film",
    "the plot is thin , the jokes are thinner",
    "good fun for the whole family , and then some more",
    "not good",
    "one of the best of the year",
)
SECOND_TEXTS = (
    "a film that moves",
    "a bright film",
    "no plot",
    "fun",
    "the family is good",
    "the worst of all the years",
)
LABELS = ("bad", "good")


def tiny_tokenizer() -> BertTokenizer:
    words = sorted({word for text in TEXTS + SECOND_TEXTS for word in text.split()} | {"never", "used", "words"})
    letters = [prefix + letter for letter in string.ascii_lowercase for prefix in ("", "##")]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", *dict.fromkeys(letters + words)]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}, model_max_length=64)


def tiny_teacher(*, label_names: tuple[str, ...] | None = LABELS, layers: int = 3) -> TextModel:
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    config.num_labels = len(label_names or "1")
    config.problem_type = "regression" if label_names is None else "single_label_classification"
    if label_names:
        set_label_names(config, label_names)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return TextModel(BertForSequenceClassification(config).eval(), tokenizer, 64)


@pytest.fixture
def teacher() -> TextModel:
    return tiny_teacher()


@pytest.fixture
def build(tmp_path: Path):
    """Builds a student of a kind from a tiny teacher; settings that a kind cannot do without are filled in."""

    def build(kind: str, *, label_names=LABELS, pair=False, seed=0, **settings) -> TextModel:
        teacher = tiny_teacher(label_names=label_names)
        if kind == "pretrained":
            teacher.save(tmp_path / "pretrained")
            settings.setdefault("model", str(tmp_path / "pretrained"))
        blueprint = Blueprint(TEXTS + SECOND_TEXTS, label_names, pair=pair, max_length=32, seed=seed, teacher=teacher)
        checked = parts.settings_of(parts.part("students", kind))(**settings)
        made = parts.part("students", kind)(**{name: getattr(checked, name) for name in type(checked).model_fields})
        return made.build(blueprint)

    return build


def encode(student: TextModel, texts=TEXTS, second_texts=None, **settings):
    """A padded batch of the student's own view of the texts."""
    settings = {"padding": True, "return_tensors": "pt"} | settings
    return student.tokenizer(list(texts), None if second_texts is None else list(second_texts), **settings)


@torch.no_grad()
def logits(student: TextModel, texts=TEXTS, second_texts=None, **settings) -> torch.Tensor:
    return student.model(**encode(student, texts, second_texts, **settings)).logits
