"""Which tokens a student knows, and the first vectors of those tokens."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from understudy.errors import DataError, ModelError
from understudy.models.encoder import word_embeddings
from understudy.students.assembly import copy_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from understudy.students.base import Blueprint

VocabularyKind = Literal["words", "characters", "teacher", "data"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
# Words as files of word vectors have them: "do n't", "it 's"; a run of one sign ("...", "--") is one token.
_WORD = r"\w+(?=n't\b)|n't\b|'(?:s|t|re|ve|m|ll|d)\b|\w+|([^\w\s])\1*"
# Han, kana and Hangul: written without spaces, or with spaces that seldom separate words.
_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯豈-﫿]")


@dataclass(frozen=True)
class ChosenTokens:
    """A tokenizer, and where its tokens are in the teacher's embedding table.

    Args:
        tokenizer: a copy, free to change.
        teacher_rows: for each id the row of the teacher's table; None where the tokens are not the teacher's.
    """

    tokenizer: PreTrainedTokenizerFast
    teacher_rows: list[int] | None


def choose(blueprint: Blueprint, kind: VocabularyKind | None, *, student: str, min_count: int = 2, max_words: int = 50_000) -> ChosenTokens:
    """The vocabulary of a student.

    Args:
        kind: `teacher`, the teacher's subwords; `data`, those of them that the data uses; `words` or `characters` of
            the data. None takes `data` where a teacher is at hand, else `characters` for Chinese and its like, else
            `words`.
        student: the kind of student, for the error.

    Raises:
        ModelError: the teacher's subwords are wanted, but only its outputs are known.
        DataError: no word occurs `min_count` times.
    """
    if kind is None:
        kind = "data" if blueprint.teacher is not None else "characters" if mostly_cjk(blueprint.texts) else "words"
    if kind in ("words", "characters"):
        tokenizer = word_tokenizer(blueprint.texts, characters=kind == "characters", min_count=min_count, max_words=max_words)
        return ChosenTokens(tokenizer, None)
    teacher = blueprint.need_teacher(f"{student} with vocabulary '{kind}'")
    if kind == "data":
        return ChosenTokens(*reduce_vocabulary(teacher.tokenizer, blueprint.texts))
    return ChosenTokens(copy_tokenizer(teacher.tokenizer), list(range(len(teacher.tokenizer))))


def mostly_cjk(texts: Iterable[str]) -> bool:
    """Whether more than half of the letters of the first texts are Han, kana or Hangul.

    >>> mostly_cjk(["我喜欢 iPhone 手机和电脑"]), mostly_cjk(["I like 北京"])
    (True, False)
    """
    letters = [character for _, text in zip(range(1000), texts, strict=False) for character in text if character.isalpha()]
    return 2 * sum(1 for character in letters if _CJK.match(character)) > len(letters)


def word_tokenizer(
    texts: Iterable[str], *, characters: bool = False, min_count: int = 2, max_words: int = 50_000
) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, lower-cased, the most frequent first. Han characters count as words.

    Args:
        characters: every character is a token.
        min_count: rarer words become [UNK], so that its vector is learned too.

    Raises:
        DataError: no word occurs so often.

    >>> word_tokenizer(["It's good", "it's GOOD!", "bad"]).tokenize("it's good bad")
    ['it', "'s", 'good', '[UNK]']
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocab={}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\S" if characters else _WORD), "removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words + len(SPECIAL_TOKENS), min_frequency=min_count, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() == len(SPECIAL_TOKENS):
        what = "character" if characters else "word"
        raise DataError(f"training texts: no {what} occurs {min_count} times or more; set student.min_count=1")
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
    )


def without_ends(tokenizer: PreTrainedTokenizerFast, *, pair: bool) -> PreTrainedTokenizerFast:
    """The same tokens with nothing put before, between or after the texts; token types mark a second text.

    For students that read tokens one by one or take their mean: they have no use for [CLS] and [SEP].

    Raises:
        ModelError: the tokenizer has no padding token.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    if tokenizer.pad_token is None:
        raise ModelError("the teacher's tokenizer has no padding token; set tokenizer.pad_token and save it again")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if pair else [])],
        **{name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None},
    )


def reduce_vocabulary(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A tokenizer with only the tokens that the texts use, and the old id of each new one (ascending).

    Each of these texts is tokenized as before. Special tokens stay, and so do single characters that are
    Latin or in the texts, so that unseen words still have a spelling. For WordPiece, BPE, Unigram and WordLevel.

    Raises:
        ModelError: another kind of tokenizer.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["padding"] = state["truncation"] = None
    model = state["model"]
    if model["type"] not in ("WordPiece", "BPE", "Unigram", "WordLevel"):
        raise ModelError(
            f"a {model['type']} tokenizer cannot be reduced to the data; use vocabulary 'teacher' "
            "(WordPiece, BPE, Unigram and WordLevel can)"
        )
    ids = _vocabulary(model)
    tokens = {index: token for token, index in ids.items()}
    used = _used(Tokenizer.from_str(json.dumps(state)), texts)
    kept = {tokens[index] for index in used if index in tokens} | _always(model, ids, used, tokens)
    if model["type"] == "BPE":
        kept = _merge_closure(model, kept)
    added = {token["id"] for token in state["added_tokens"]} | set(tokenizer.all_special_ids)
    kept_ids = sorted({ids[token] for token in kept} | added)
    new_ids = {old: new for new, old in enumerate(kept_ids)}

    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][index] for index in kept_ids if index in tokens]
        model["unk_id"] = new_ids.get(model["unk_id"])
    else:
        model["vocab"] = {tokens[index]: new_ids[index] for index in kept_ids if index in tokens}
    if model["type"] == "BPE":
        model["merges"] = [merge for merge in model["merges"] if {*_sides(merge), _merged(model, merge)} <= kept]
    for token in state["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    _renumber(state["post_processor"], new_ids)

    # Through a folder, as it will be loaded later: a class of tokenizer may build parts of itself while loading.
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in Path(folder).iterdir():
            if file.name not in ("tokenizer.json", "tokenizer_config.json"):
                file.unlink()  # vocab.txt and its like still list every token
        settings = json.loads((Path(folder) / "tokenizer_config.json").read_text("utf-8"))
        settings.pop("added_tokens_decoder", None)  # old ids; tokenizer.json has the new ones
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        (Path(folder) / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), "utf-8")
        reduced: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    reduced.name_or_path = tokenizer.name_or_path
    return copy_tokenizer(reduced), kept_ids


def keep_rows(model: PreTrainedModel, kept_ids: Sequence[int]) -> None:
    """Keep only these rows of the model's word embeddings, in place, and number the config's special tokens anew.

    Raises:
        ModelError: positions are numbered from the padding token (RoBERTa, MPNet), and that would move.
    """
    old = word_embeddings(model)
    padding = None if old.padding_idx is None else list(kept_ids).index(old.padding_idx)
    numbered_from_padding = any(
        isinstance(module, nn.Embedding) and module.padding_idx is not None
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
    )
    if numbered_from_padding and padding != old.padding_idx:
        raise ModelError(
            f"{type(model).__name__}: positions are counted from the padding token, whose id {old.padding_idx} would "
            "change; use vocabulary 'teacher'"
        )
    new = nn.Embedding(len(kept_ids), old.embedding_dim, padding_idx=padding)
    with torch.no_grad():
        new.weight.copy_(old.weight[list(kept_ids)])
    model.set_input_embeddings(new)
    model.config.vocab_size = len(kept_ids)
    renumber_config(model.config, kept_ids)


def renumber_config(config: Any, kept_ids: Sequence[int]) -> None:
    """Number the special tokens of a config as in the reduced vocabulary."""
    new_ids = {old: new for new, old in enumerate(kept_ids)}
    for name in _TOKEN_IDS:
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, new_ids.get(getattr(config, name)))


def principal_components(table: Tensor, width: int, *, scale: float) -> Tensor:
    """Rows projected to their `width` directions of largest variance, with standard deviation `scale` overall.

    Where the table is narrower, the other columns are drawn at random. Deterministic apart from those.

    >>> principal_components(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1, scale=1.0).abs().flatten().tolist()
    [1.0, 0.0, 1.0]
    """
    rows = table.detach().double()
    centred = rows - rows.mean(dim=0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors  # ascending; a table's width is a few hundred
    projected = centred @ directions.flip(1)[:, :width]
    projected = projected * (scale / projected.std().clamp(min=1e-12))
    rest = torch.randn(len(rows), width - projected.shape[1], dtype=torch.float64) * scale
    return torch.cat([projected, rest], dim=1).float()


def start_from_teacher(embedding: nn.Embedding, blueprint: Blueprint, teacher_rows: Sequence[int], *, scale: float) -> None:
    """Fill a student's table from the principal components of the teacher's; the padding row is zero."""
    table = word_embeddings(blueprint.need_teacher("with the teacher's vectors").model).weight[list(teacher_rows)]
    with torch.no_grad():
        embedding.weight.copy_(principal_components(table, embedding.embedding_dim, scale=scale))
        if embedding.padding_idx is not None:
            embedding.weight[embedding.padding_idx] = 0


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    if model["type"] == "Unigram":
        return {token: index for index, (token, _) in enumerate(model["vocab"])}
    return model["vocab"]


def _used(tokenizer: Tokenizer, texts: Iterable[str]) -> set[int]:
    used: set[int] = set()
    texts, tokenizer.encode_special_tokens = list(texts), True
    for start in range(0, len(texts), 10_000):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + 10_000], add_special_tokens=False):
            used.update(encoding.ids)
    return used


def _always(model: dict[str, Any], ids: dict[str, int], used: set[int], tokens: dict[int, str]) -> set[str]:
    """Tokens that stay whatever the texts are."""
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""

    def spelling(token: str) -> str:
        token = token.removeprefix(prefix) if len(token) > len(prefix) else token
        return token.removesuffix(suffix) if len(token) > len(suffix) else token

    alphabet = {character for index in used for character in tokens.get(index, "")}
    kept = {token for token in ids if len(spelling(token)) == 1 and (spelling(token) in alphabet or ord(spelling(token)) < 0x250)}
    if model["type"] == "WordLevel":
        kept = set()  # a word never falls apart into characters
    if model.get("byte_fallback"):
        kept |= {token for token in ids if re.fullmatch(r"<0x[0-9A-F]{2}>", token)}
    if model["type"] == "Unigram":
        # An unknown character costs ten more than the cheapest piece does, so the cheapest must stay.
        kept.add(min(model["vocab"], key=lambda piece: piece[1])[0])
        if model["unk_id"] is not None:
            kept.add(model["vocab"][model["unk_id"]][0])
    elif model.get("unk_token") in ids:
        kept.add(model["unk_token"])
    return kept


def _merge_closure(model: dict[str, Any], kept: set[str]) -> set[str]:
    """The tokens, and all that they are merged from."""
    made_from: dict[str, list[tuple[str, str]]] = {}
    for merge in model["merges"]:
        made_from.setdefault(_merged(model, merge), []).append(_sides(merge))
    waiting, closed = list(kept), set(kept)
    while waiting:
        for sides in made_from.get(waiting.pop(), ()):
            waiting += [side for side in sides if side not in closed]
            closed.update(sides)
    return closed


def _sides(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _merged(model: dict[str, Any], merge: str | list[str]) -> str:
    left, right = _sides(merge)
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _renumber(processor: dict[str, Any] | None, new_ids: dict[int, int]) -> None:
    """Number the special tokens of a post-processor anew, in place."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber(inner, new_ids)
    for name in ("sep", "cls"):
        if isinstance(processor.get(name), list):
            processor[name][1] = new_ids[processor[name][1]]
    if isinstance(processor.get("special_tokens"), dict):
        for token in processor["special_tokens"].values():
            token["ids"] = [new_ids[index] for index in token["ids"]]
