"""A recurrent network: one bidirectional LSTM layer."""

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

_EMBEDDING = 300  # where neither the settings nor a file give a width


class BiLSTM(Student):
    """A bidirectional LSTM over word vectors, a ReLU layer, logits; the siamese form for pairs.

    Pick it for the smallest latency of a single text that still reads word order. `static_embeddings` is far faster
    still and blind to order; `narrow` wins in large batches and with much text.

    Args:
        hidden: width of the LSTM, per direction.
        embedding: width of the token vectors; None is that of the file of vectors, else 300.
        feature: width of the ReLU layer.
        dropout: on token vectors and before both dense layers.
        vocabulary: `words` or `characters` of the data; `teacher`, the teacher's subwords; `data`, those the data
            uses; None takes `data` where a teacher is at hand. The teacher's subwords start from the principal
            components of its embeddings.
        min_count: rarer words (or characters) are unknown.
        max_words: the most frequent are kept.
        vectors: a file of word vectors to start from: GloVe or word2vec text, or .npz with `words` and `vectors`.

    Raises:
        ValueError: a setting out of its range.

    Source: Tang et al. 2019, arXiv:1903.12136: 150 hidden units, 200 features for single sentences.
    Departs: the teacher's own subword vectors take the place of their word2vec channels unless `vectors` is given.
    """

    training: ClassVar[dict[str, Any]] = {"epochs": 10, "min_updates": 1000, "batch_size": 32, "learning_rate": 1e-3}

    def __init__(
        self,
        *,
        hidden: int = 150,
        embedding: int | None = None,
        feature: int = 200,
        dropout: float = 0.1,
        vocabulary: Literal["words", "characters", "teacher", "data"] | None = None,
        min_count: int = 2,
        max_words: int = 50_000,
        vectors: str | None = None,
    ) -> None:
        for name, size in {"hidden": hidden, "embedding": 1 if embedding is None else embedding, "feature": feature}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: at least 1 is needed")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: from 0 to below 1 is allowed")
        self.hidden, self.embedding, self.feature, self.dropout = hidden, embedding, feature, dropout
        self.table = TableSettings(vocabulary, min_count, max_words, vectors)

    @property
    def copied(self) -> str:
        return self.table.copied

    def build(self, blueprint: Blueprint) -> TextModel:
        table = self.table.table(blueprint, student="bilstm", setting="embedding", width=self.embedding, otherwise=_EMBEDDING)
        tokenizer = table.tokenizer
        config = BiLSTMConfig(
            vocab_size=len(tokenizer),
            embedding_size=table.width,
            hidden_size=self.hidden,
            feature_size=self.feature,
            dropout=self.dropout,
            pair=blueprint.pair,
            pad_token_id=tokenizer.pad_token_id,
        )
        set_head(config, blueprint)
        with seeded(blueprint.seed):
            model = BiLSTMForSequenceClassification(config)
            table.fill(model.embedding, blueprint, scale=config.embedding_scale)
        return assemble(model, tokenizer, blueprint)


class BiLSTMConfig(PreTrainedConfig):
    """Sizes of a `BiLSTMForSequenceClassification`."""

    model_type = "understudy_bilstm"
    vocab_size: int = 30_000
    embedding_size: int = _EMBEDDING
    hidden_size: int = 150
    feature_size: int = 200
    dropout: float = 0.1
    embedding_scale: float = 0.3  # standard deviation of the first token vectors; 0.1 learned more slowly
    pair: bool = False
    pad_token_id: int | None = 0


class BiLSTMForSequenceClassification(PreTrainedModel):
    """Last step of each direction → ReLU layer → logits. Rows are padded on the right; padding changes nothing."""

    config_class = BiLSTMConfig
    base_model_prefix = "bilstm"

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        # Two of one direction each, not one of both: in a padded batch the backward one has to start at each row's own
        # end, and packed sequences, which would do that, cannot be exported to ONNX.
        self.forward_lstm = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(feature_width(2 * config.hidden_size, pair=config.pair), config.feature_size)
        self.classifier = nn.Linear(config.feature_size, config.num_labels or 1)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value  # type: ignore[assignment]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.LSTM):
            module.reset_parameters()
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=self.config.embedding_scale)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                initialization.zeros_(module.weight[module.padding_idx])

    def encode(self, input_ids: Int[Tensor, "texts length"], lengths: Int[Tensor, " texts"]) -> Float[Tensor, "texts width"]:
        """The last step of each direction, side by side. An empty text is read as one token of padding."""
        embedded = self.dropout(self.embedding(input_ids))
        last = lengths.clamp(min=1)[:, None] - 1
        backwards = (last - torch.arange(input_ids.shape[1], device=input_ids.device)).clamp(min=0)
        turned = embedded.gather(1, backwards[:, :, None].expand(-1, -1, embedded.shape[2]))
        at_last = last[:, :, None].expand(-1, -1, self.config.hidden_size)
        ends = [
            lstm(inputs)[0].gather(1, at_last).squeeze(1) for lstm, inputs in ((self.forward_lstm, embedded), (self.backward_lstm, turned))
        ]
        return torch.cat(ends, dim=-1)

    def forward(
        self,
        input_ids: Int[Tensor, "rows length"],
        attention_mask: Int[Tensor, "rows length"] | None = None,
        token_type_ids: Int[Tensor, "rows length"] | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        texts, lengths = texts_of(input_ids, attention_mask, token_type_ids, pair=self.config.pair)
        hidden = self.dense(self.dropout(features(self.encode(texts, lengths), pair=self.config.pair))).relu()
        logits = self.classifier(self.dropout(hidden))
        loss = None if labels is None else self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)
