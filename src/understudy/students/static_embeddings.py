"""The mean of token vectors, and a small network on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import SequenceClassifierOutput

from understudy.students.assembly import assemble, seeded, set_head
from understudy.students.base import Blueprint, Student
from understudy.students.pairs import feature_width, features, texts_of
from understudy.students.token_table import TableSettings

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel

_WIDTH = 256  # where neither the settings nor a file give a width


class StaticEmbeddings(Student):
    """The mean of token vectors, one hidden layer, logits: blind to word order, and faster than its tokenizer.

    Pick it for topics and other tasks where words decide, and wherever a processor has to read very much text.
    `bilstm` is the nearest that reads order. With `vectors` it is the averaged word vectors that many start from.

    Args:
        width: of the token vectors; None is that of the file of vectors, else 256.
        hidden: width of the hidden layer.
        dropout: on the mean and on the hidden layer.
        vocabulary: `words` or `characters` of the data; `teacher`, the teacher's subwords; `data`, those the data
            uses; None takes `data` where a teacher is at hand. The teacher's subwords start from the principal
            components of its embeddings.
        min_count: rarer words (or characters) are unknown.
        max_words: the most frequent are kept.
        vectors: a file of word vectors to start from: GloVe or word2vec text, or .npz with `words` and `vectors`.

    Raises:
        ValueError: a setting out of its range.

    Source: the principal components of a teacher's token vectors are model2vec's idea (Tulkens and van Dongen 2024).
    Departs: the teacher's input embeddings are used, not its outputs for single tokens, and all are trained on.
    """

    training: ClassVar[dict[str, Any]] = {"epochs": 10, "min_updates": 1000, "batch_size": 64, "learning_rate": 3e-3}
    autocast: ClassVar[bool] = False  # measured: no faster in bf16, where next to no time goes into matrix products

    def __init__(
        self,
        *,
        width: int | None = None,
        hidden: int = 256,
        dropout: float = 0.1,
        vocabulary: Literal["words", "characters", "teacher", "data"] | None = None,
        min_count: int = 2,
        max_words: int = 50_000,
        vectors: str | None = None,
    ) -> None:
        for name, size in {"width": 1 if width is None else width, "hidden": hidden}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: at least 1 is needed")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: from 0 to below 1 is allowed")
        self.width, self.hidden, self.dropout = width, hidden, dropout
        self.table = TableSettings(vocabulary, min_count, max_words, vectors)

    @property
    def copied(self) -> str:
        return self.table.copied

    def build(self, blueprint: Blueprint) -> TextModel:
        table = self.table.table(blueprint, student="static_embeddings", setting="width", width=self.width, otherwise=_WIDTH)
        tokenizer = table.tokenizer
        config = StaticEmbeddingsConfig(
            vocab_size=len(tokenizer),
            embedding_size=table.width,
            hidden_size=self.hidden,
            dropout=self.dropout,
            pair=blueprint.pair,
            pad_token_id=tokenizer.pad_token_id,
        )
        set_head(config, blueprint)
        with seeded(blueprint.seed):
            model = StaticEmbeddingsForSequenceClassification(config)
            table.fill(model.embedding, blueprint, scale=config.embedding_scale)
        return assemble(model, tokenizer, blueprint)


class StaticEmbeddingsConfig(PreTrainedConfig):
    """Sizes of a `StaticEmbeddingsForSequenceClassification`."""

    model_type = "understudy_static_embeddings"
    vocab_size: int = 30_000
    embedding_size: int = _WIDTH
    hidden_size: int = 256
    dropout: float = 0.1
    embedding_scale: float = 0.3  # standard deviation of the first token vectors; 0.1 learned more slowly
    pair: bool = False
    pad_token_id: int | None = 0


class StaticEmbeddingsForSequenceClassification(PreTrainedModel):
    """Mean of the token vectors of each text → hidden layer → logits. Padding changes nothing."""

    config_class = StaticEmbeddingsConfig
    base_model_prefix = "static_embeddings"

    def __init__(self, config: StaticEmbeddingsConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(feature_width(config.embedding_size, pair=config.pair), config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 1)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value  # type: ignore[assignment]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=self.config.embedding_scale)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                initialization.zeros_(module.weight[module.padding_idx])

    def encode(self, input_ids: Int[Tensor, "texts length"], lengths: Int[Tensor, " texts"]) -> Float[Tensor, "texts width"]:
        """The mean over each text's own tokens; zeros for an empty text."""
        # A gather and a masked mean: EmbeddingBag would do both, but exports to something many times slower.
        counted = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths[:, None]
        total = (self.embedding(input_ids) * counted[:, :, None]).sum(dim=1)
        return total / lengths.clamp(min=1)[:, None]

    def forward(
        self,
        input_ids: Int[Tensor, "rows length"],
        attention_mask: Int[Tensor, "rows length"] | None = None,
        token_type_ids: Int[Tensor, "rows length"] | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        texts, lengths = texts_of(input_ids, attention_mask, token_type_ids, pair=self.config.pair)
        mean = features(self.encode(texts, lengths), pair=self.config.pair)
        hidden = self.dense(self.dropout(mean)).relu()
        logits = self.classifier(self.dropout(hidden))
        loss = None if labels is None else self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)
