"""Laws of every augmenter, what each does, and the rows that come of it."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
import torch
from datasets import Dataset, Features, Value
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from tiny import TEXTS, tiny_teacher, tiny_tokenizer
from understudy import parts
from understudy.augmenters import AugmentationContext, Augmenter, base
from understudy.augmenters.augmentation import augmented
from understudy.augmenters.base import is_word, pieces_of
from understudy.augmenters.masking import Masking
from understudy.augmenters.ngram_sampling import NgramSampling
from understudy.augmenters.part_of_speech import PartOfSpeech
from understudy.augmenters.word_replacement import WordReplacement
from understudy.data.tables import identity
from understudy.errors import DataError, ModelError, RecipeError
from understudy.models.view import MASKED

LONG = (
    "One of the best films of the year, and a moving one.",
    "a dull film; the jokes are thinner than the plot",
    "very  odd\tspaces , and “quotes” – well-made, isn't it?",
    "剧情很好看，演员 also good！",
    "9/10",
    "?!",
)
TAGS = [
    {"tokens": ["the", "plot", "is", "dull"], "tags": ["DET", "NOUN", "VERB", "ADJ"]},
    {"tokens": ["a", "gripping", "film"], "tags": ["DET", "ADJ", "NOUN"]},
    {"tokens": ["one", "moving", "family"], "tags": ["NUM", "ADJ", "NOUN"]},
]


@pytest.fixture
def tagged(tmp_path) -> str:
    path = tmp_path / "tagged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TAGS))
    return str(path)


def rows(texts=TEXTS, pairs=None) -> Dataset:
    columns = {"identity": [identity(*row) for row in zip(texts, *([pairs] if pairs else []), strict=True)], "text": list(texts)}
    columns |= {"text_pair": list(pairs)} if pairs else {}
    kinds = dict.fromkeys(columns, Value("string")) | {"label": Value("int64")}
    return Dataset.from_dict(columns | {"label": [0] * len(texts)}, features=Features(kinds))


@pytest.fixture(scope="session")
def masked_lm(tmp_path_factory) -> str:
    folder, tokenizer = tmp_path_factory.mktemp("masked_lm"), tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("text", [*TEXTS, *LONG])
def test_pieces_are_the_text(text):
    assert "".join(pieces_of(text)) == text


def test_chinese_is_cut_by_character():
    assert [piece for piece in pieces_of("好看的film, 真") if is_word(piece)] == ["好", "看", "的", "film", "真"]


def test_chinese_can_be_cut_by_word(capfd):
    pytest.importorskip("jieba", reason="jieba (extra chinese) is not installed")
    assert pieces_of("剧情很好看，演员 also good！  在北京", words="jieba") == [
        "剧情",
        "很",
        "好看",
        "，",
        "演员 ",
        "also ",
        "good",
        "！  ",
        "在",
        "北京",
    ]
    for text in (*TEXTS, *LONG, " 我来到 北京清华大学iPhone12 3.5元 ", "㐀㐁的", ""):
        assert "".join(pieces_of(text, words="jieba")) == text
        if not any("\u3400" <= letter <= "\u9fff" for letter in text):
            assert pieces_of(text, words="jieba") == pieces_of(text)
    assert capfd.readouterr() == ("", "")


def test_the_words_of_jieba_reach_every_step(tmp_path):
    """Masks, n-grams and parts of speech count words where characters would be twice as many."""
    pytest.importorskip("jieba", reason="jieba (extra chinese) is not installed")
    path = tmp_path / "tagged.jsonl"
    path.write_text('{"tokens": ["演员", "北京", "好看"], "tags": ["N", "N", "A"]}\n', "utf-8")
    data = rows(["演员好看"])
    steps = [PartOfSpeech(tagger=str(path), probability=0.999), NgramSampling(probability=1.0, longest=1)]
    found = augmented(data, steps, copies=20, seed=0, words="jieba")["text"][:]
    assert set(found) == {"演员", "好看"}
    assert set("".join(augmented(data, [NgramSampling(probability=1.0, longest=1)], copies=20, seed=0)["text"])) == set("演员好看")


def test_without_jieba_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    base._jieba.cache_clear()
    assert pieces_of("a film", words="jieba") == ["a ", "film"]
    with pytest.raises(RecipeError, match=r"augment.words is 'jieba', but jieba is not installed: `pip install jieba`"):
        pieces_of("好看的film", words="jieba")


@pytest.fixture(params=sorted(parts.kinds("augmenters")))
def augmenter(request, tagged, masked_lm) -> Augmenter:
    given = {"part_of_speech": {"tagger": tagged}, "word_replacement": {"masked_lm": masked_lm}}.get(request.param, {})
    made = parts.part("augmenters", request.param)(**given, probability=0.5)
    made.prepare(AugmentationContext([*TEXTS, *LONG], tiny_teacher()))
    return made


@pytest.mark.parametrize("text", LONG)
def test_laws(augmenter, text):
    pieces = pieces_of(text)
    before = list(pieces)
    found = [augmenter.change(pieces, Random(seed)) for seed in range(40)]
    assert pieces == before, "it changed what it was given"
    assert found == [augmenter.change(pieces, Random(seed)) for seed in range(40)], "chance from elsewhere"
    assert all(one and all(isinstance(piece, str) for piece in one) for one in found)
    if text in LONG[:2]:  # all augmenters know some of these words
        assert len({"".join(one) for one in found}) > 3


def test_masking_hides_as_many_words_as_it_says():
    one = Masking(probability=0.3)
    one.prepare(AugmentationContext([], tiny_teacher()))
    pieces = pieces_of("a film , " * 1000)
    found = one.change(pieces, Random(0))
    assert 0.27 < sum(piece == f"{MASKED} " for piece in found) / 2000 < 0.33
    assert Counter(found)[", "] == 1000 and len(found) == len(pieces)


def test_masking_needs_a_mask():
    with pytest.raises(RecipeError, match="the teacher has none; remove this step"):
        Masking().prepare(AugmentationContext(TEXTS))


def test_ngrams_are_words_in_a_row_of_every_length():
    text = "a gripping film , and a moving one"
    found = [NgramSampling(probability=1.0, longest=3).change(pieces_of(text), Random(seed)) for seed in range(300)]
    assert all("".join(one) in text for one in found)
    lengths = Counter(sum(map(is_word, one)) for one in found)
    assert lengths.keys() == {1, 2, 3} and min(lengths.values()) > 60
    assert pieces_of(text) == NgramSampling(probability=1e-9).change(pieces_of(text), Random(0))


def test_words_give_way_to_words_of_their_kind(tagged):
    one = PartOfSpeech(tagger=tagged, probability=0.999)
    one.prepare(AugmentationContext(["the plot is dull", "a gripping film", "a moving family is the plot"]))
    kinds = {"DET": {"the", "a"}, "NOUN": {"plot", "film", "family"}, "VERB": {"is"}, "ADJ": {"dull", "gripping", "moving"}}
    seen = Counter()
    for seed in range(200):
        found = [piece.strip() for piece in one.change(pieces_of("the plot is gripping"), Random(seed))]
        assert [word in kinds[kind] for word, kind in zip(found, ("DET", "NOUN", "VERB", "ADJ"), strict=True)] == [True] * 4
        seen.update(found)
    assert seen["plot"] > 1.4 * seen["film"] > 0, "words come as often as they stand in the data: plot is there twice"
    (capital,) = {piece.strip() for piece in one.change(["Is "], Random(0))}
    assert capital == "Is"


def test_a_word_never_tagged_goes_by_its_end(tagged):
    one = PartOfSpeech(tagger=tagged, probability=0.999)
    one.prepare(AugmentationContext(["a charming film"]))  # -ing, as gripping and moving
    assert one._tags["charming"] == "ADJ"


@pytest.mark.parametrize(("tagger", "message"), [("nowhere", "neither a file of tagged rows"), (None, "needs the columns tokens")])
def test_taggers_that_are_none(tagger, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(RecipeError, match=message):
        PartOfSpeech(tagger=tagger or str(path)).prepare(AugmentationContext(TEXTS))


@pytest.mark.parametrize(
    ("tokens", "tags", "message"),
    [
        (["a", "film"], ["DET"], "row 2 has 2 tokens and 1 tags; every token needs one tag"),
        (["a", None], ["DET", "NOUN"], "row 2: tokens is empty at position 2 of 2"),
        (["a", "film"], [None, "NOUN"], "row 2: tags is empty at position 1 of 2"),
        (None, None, "row 2: tokens is None; a list is needed"),
        ("a film", ["DET", "NOUN"], "row 2: tokens is 'a film'; a list is needed, which CSV writes as JSON"),
    ],
)
def test_tagged_rows_that_do_not_fit(tokens, tags, message, tmp_path):
    path = tmp_path / "tagged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [TAGS[0], {"tokens": tokens, "tags": tags}]))
    with pytest.raises(DataError, match=rf"part_of_speech.tagger: .*tagged.jsonl: {message}"):
        PartOfSpeech(tagger=str(path)).prepare(AugmentationContext(TEXTS))


def test_tagged_rows_of_another_language(tagged):
    with pytest.raises(DataError, match=r"tagged\.jsonl has a tag for none of the 2 words of the data"):
        PartOfSpeech(tagger=tagged).prepare(AugmentationContext(["好看"]))


@pytest.fixture
def model(tmp_path) -> Callable[..., str]:
    """Writes a tiny model of a class into a folder; the tokenizer says nothing of how much the model reads."""

    def write(cls, tokenizer=None, config=BertConfig, positions=64, **settings) -> str:
        tokenizer = tokenizer or tiny_tokenizer()
        tokenizer.model_max_length = 10**30
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.5}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            cls(config(vocab_size=len(tokenizer), max_position_embeddings=positions, **sizes, **settings)).save_pretrained(
                tmp_path / "model"
            )
        tokenizer.save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return write


def test_a_model_tags_texts_of_any_length(model):
    one = PartOfSpeech(tagger=model(BertForTokenClassification, id2label={0: "NOUN", 1: "VERB"}))
    one.prepare(AugmentationContext([*TEXTS, "a film " * 99]))
    assert set(one._tags.values()) <= {"NOUN", "VERB"} and {"film", "plot"} <= one._tags.keys()


@pytest.mark.parametrize("cls", [BertForSequenceClassification, BertModel, BertForMaskedLM])
def test_models_that_would_tag_at_random(cls, model):
    with pytest.raises(ModelError, match=r"part_of_speech.tagger: .* is not a token-classification model: .* random"):
        PartOfSpeech(tagger=model(cls)).prepare(AugmentationContext(TEXTS))


@pytest.fixture
def pipeline(tmp_path) -> str:
    """A spaCy pipeline that knows the tags of four words; "isn't" is two tokens for it."""
    spacy = pytest.importorskip("spacy", reason="spaCy (extra spacy) is not installed")
    made = spacy.blank("en")
    ruler = made.add_pipe("attribute_ruler")
    for word, tag in {"film": "NN", "plot": "NN", "is": "VBZ", "dull": "JJ"}.items():
        ruler.add(patterns=[[{"LOWER": word}]], attrs={"TAG": tag})
    made.to_disk(tmp_path / "pipeline")
    return str(tmp_path / "pipeline")


def test_spacy_tags(pipeline):
    one = PartOfSpeech(tagger=f"spacy:{pipeline}", probability=0.999)
    one.prepare(AugmentationContext([*TEXTS, "Film , it isn't", "the plot is  dull"]))
    assert one._tags == {"film": "NN", "plot": "NN", "is": "VBZ", "isn't": "VBZ", "dull": "JJ"}
    found = Counter(piece for seed in range(40) for piece in one.change(["dull ", "plot"], Random(seed)))
    assert found.keys() == {"dull ", "film", "plot"}


def test_spacy_without_tags_is_refused(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy (extra spacy) is not installed")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(RecipeError, match="has no tagger for parts of speech; use one that has"):
        PartOfSpeech(tagger=f"spacy:{tmp_path / 'blank'}").prepare(AugmentationContext(TEXTS))
    with pytest.raises(RecipeError, match=r"cannot load 'no_such_web'; is it installed \(`python -m spacy download no_such_web"):
        PartOfSpeech(tagger="spacy:no_such_web").prepare(AugmentationContext(TEXTS))


def test_without_spacy_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(RecipeError, match=r"tagger is 'spacy:en_x', but spaCy is not installed: `pip install spacy`"):
        PartOfSpeech(tagger="spacy:en_x").prepare(AugmentationContext(TEXTS))


def test_words_that_the_model_expects(masked_lm):
    """One word at a time, against the model asked by hand; 'thinnest' is several tokens and stays."""
    one = WordReplacement(masked_lm=masked_lm, probability=1.0, candidates=3)
    one.prepare(AugmentationContext(TEXTS))
    text = "the jokes are thinnest"
    tokenizer, model = tiny_tokenizer(), BertForMaskedLM.from_pretrained(masked_lm).eval()
    assert len(tokenizer.tokenize("thinnest")) > 1
    batch = tokenizer("the [MASK] are thinnest", text, return_tensors="pt", split_special_tokens=False)
    with torch.no_grad():
        logits = model(**batch).logits[0, batch["input_ids"][0] == tokenizer.mask_token_id][0]
    words = [tokenizer.convert_ids_to_tokens(token) for token in logits.topk(9).indices.tolist()]
    expected = [word for word in words if word.isalpha() and word != "jokes"][:3]
    found = [[piece.strip() for piece in one.change(pieces_of(text), Random(seed))] for seed in range(60)]
    assert {one[1] for one in found} == set(expected) and {one[3] for one in found} == {"thinnest"}


def test_the_model_reads_only_words_that_change_and_each_once(masked_lm):
    one = WordReplacement(masked_lm=masked_lm, probability=0.5)
    one.prepare(AugmentationContext(TEXTS))
    read: list[int] = []
    one._model.model.register_forward_pre_hook(lambda _, __, batch: read.append(len(batch["input_ids"])), with_kwargs=True)
    pieces = pieces_of("the film is dull the film is dull the film is dull")
    changed = [one.change(pieces, Random(seed)) for seed in range(3)]
    differ = {place for found in changed for place, piece in enumerate(found) if piece != pieces[place]}
    assert differ and sum(read) == len(differ)


@pytest.mark.parametrize(("positions", "batches"), [(64, [64]), (512, [64, 36])])
def test_texts_of_any_length_in_batches_of_64(positions, batches, model):
    one = WordReplacement(masked_lm=model(BertForMaskedLM, positions=positions), probability=1.0)
    one.prepare(AugmentationContext(TEXTS))
    read: list[int] = []
    one._model.model.register_forward_pre_hook(lambda _, __, batch: read.append(len(batch["input_ids"])), with_kwargs=True)
    pieces = pieces_of("film " * 100)
    changed = [place for place, piece in enumerate(one.change(pieces, Random(0))) if piece != pieces[place]]
    assert read == batches and changed
    assert positions == 64 or len(changed) == 100


WHOLE, PARTS = {"the", "film", "plot", "is", "dull", "café"}, {"film", "plot", "ing", "ed"}


def byte_level() -> RobertaTokenizer:
    cut = ByteLevel(add_prefix_space=False, use_regex=False)
    tokens, merges = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())], []
    for word in sorted({f" {word}" for word in WHOLE} | PARTS):
        letters = cut.pre_tokenize_str(word)[0][0]
        for end in range(2, len(letters) + 1):
            if letters[:end] not in tokens:
                tokens.append(letters[:end])
                merges.append((letters[: end - 1], letters[end - 1]))
    return RobertaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)


def sentence_piece() -> XLMRobertaTokenizer:
    words = {f"▁{word}": -3.0 for word in sorted(WHOLE)} | dict.fromkeys(sorted(PARTS), -4.0)
    signs = dict.fromkeys(["▁", '"', "b", "d"], -9.0)
    return XLMRobertaTokenizer(
        vocab=list((dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>"], 0.0) | words | signs | {"<mask>": 0.0}).items())
    )


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_only_words_take_the_place_of_words(make, model):
    """A token without the mark of a space is a part of a word, and stands only where a part stood."""
    tokenizer = make()
    one = WordReplacement(masked_lm=model(RobertaForMaskedLM, tokenizer, RobertaConfig, pad_token_id=1), candidates=999)
    one.prepare(AugmentationContext(TEXTS))
    pieces = tuple(pieces_of('the film "film" bad dull'))
    marked = {one.lstrip("Ġ▁") for one in tokenizer.get_vocab() if one.startswith(("Ġ", "▁"))} - {"", "cafÃ", "cafÃ©"}
    unmarked = {one for one in tokenizer.get_vocab() if one.isascii() and one.isalpha()}
    assert marked | {"café"} >= WHOLE and unmarked >= PARTS
    found = {place: set(words) for place, words in one._run_model(pieces, [0, 1, 3, 5, 6]).items()}
    assert found[1] == (marked | {"café"}) - {"film"} and found[6] == (marked | {"café"}) - {"dull"}
    assert found[3] >= PARTS - {"film"} and found[3] <= unmarked
    assert found[5] == set(), "a word of several tokens"
    assert found[0] == ((marked | {"café"}) - {"the"} if make is sentence_piece else set())


def test_words_near_in_meaning(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("good 1 0\nfine 0.9 0.1\nbad -1 0\nfilm 0 1\nplot 0.1 0.9\n")
    one = WordReplacement(vectors=str(path), probability=1.0, candidates=1)
    one.prepare(AugmentationContext(TEXTS))
    assert one.change(pieces_of("Good film , 9 unknown"), Random(0)) == ["Fine ", "plot ", ", ", "9 ", "unknown"]
    few = WordReplacement(vectors=str(path), probability=1.0, candidates=9)
    few.prepare(AugmentationContext(TEXTS))
    assert {few.change(["good"], Random(seed))[0] for seed in range(40)} == {"fine", "bad", "film", "plot"}


def test_word_replacement_needs_something_to_go_by(tmp_path):
    with pytest.raises(ValueError, match="both missing"):
        WordReplacement()
    tiny_teacher().save(tmp_path / "teacher")
    with pytest.raises(ModelError, match=r"is not a masked language model: .* random \(cls\."):
        WordReplacement(masked_lm=str(tmp_path / "teacher")).prepare(AugmentationContext(TEXTS))


def test_rows_hang_on_seed_and_identity_alone():
    def made(texts, seed=0):
        return augmented(rows(texts), [Masking(probability=0.4)], copies=4, seed=seed, teacher=tiny_teacher())["text"][:]

    whole = made(TEXTS)
    assert whole == made(TEXTS) and whole != made(TEXTS, seed=1)
    assert set(made(TEXTS[2:4])) <= set(whole), "other rows matter"
    assert len(whole) == len(set(whole)) and not set(whole) & set(TEXTS)


def test_rows_are_unlabelled_and_known_by_their_text():
    found = augmented(rows(), [Masking(probability=0.4)], copies=3, seed=0, teacher=tiny_teacher())
    assert set(found["label"]) == {-100} and found.features == rows().features
    assert found["identity"][:] == [identity(text) for text in found["text"]]


def test_sides_of_a_pair_change_alike_often():
    pairs = [f"film {number} of the year" for number in range(300)]
    texts = [f"family {number} is fun" for number in range(300)]
    found = augmented(rows(texts, pairs), [Masking(probability=0.999)], copies=1, seed=0, teacher=tiny_teacher())
    kinds = Counter((MASKED in text, MASKED in pair) for text, pair in zip(found["text"], found["text_pair"], strict=True))
    assert kinds.keys() == {(True, False), (False, True), (True, True)} or not kinds
    assert min(kinds[True, False], kinds[False, True]) > 70
