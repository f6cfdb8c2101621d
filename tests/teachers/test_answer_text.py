"""What a language model writes around its answer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.teachers.file import FileTeacher

NAMES = ("delivery", "lost card", "refund", "答案", "C++")
AROUND = {
    "as it is": "{}",
    "dot": " {}. ",
    "bold": "**{}**",
    "quotes": '"{}".',
    "code": "`{}`",
    "brackets": "[{}]",
    "label": "Label: {}",
    "bold lead-in": "**Label:** {}",
    "sentence": "The label is: {}.",
    "sentence, bold": "The most likely category is **{}**.",
    "sure": "Sure! The answer is '{}'.",
    "reason": "Label: {}\nReason: the customer asks for delivery or refund",
    "name, then why": "{}\n\nThe customer asks for something else than the others.",
    "Chinese": "类别：{}。",
    "thoughts": "<think>Could be delivery or refund.</think>\n{}",
    "block": "```\n{}\n```",
    "JSON": '{{"label": "{}"}}',
    "JSON with more": '{{"reasoning": "no delivery", "answer": "{}", "confidence": 0.9}}',
    "JSON list": '{{"class": ["{}"]}}',
    "JSON in a block": '```json\n{{"label": "{}"}}\n```',
    "JSON in a block after words": 'Here is the answer:\n\n```json\n{{"category": "{}"}}\n```\nDo you need more?',
    "JSON after words": 'Sure! {{"label": "{}"}}',
    "JSON in JSON": '"```json\\n{{\\"label\\": \\"{}\\"}}\\n```"',
    "block that does not end": '```json\n{{"label": "{}"}}',
}
NEITHER = (
    "I'm sorry, I can't help with that.",
    "It is not a refund",
    "refund or delivery",
    "Label: refund\nLabel: delivery",
    "refund\ndelivery",
    '{"label": "refund", "answer": "delivery"}',
    '{"label": ["refund", "delivery"]}',
    '{"label": null}',
    "The answer is not refund.",
    "```refund```\nor\n```delivery```",
    "unknown",
    "",
)


def said(path, texts: list[str], column: str, names=NAMES) -> FileTeacher:
    rows = [{"text": f"text {number}", column: one} for number, one in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return FileTeacher(str(path), {}, names)


@given(st.lists(st.tuples(st.sampled_from(sorted(AROUND)), st.sampled_from(NAMES)), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_law_whatever_stands_around_it_the_class_is_the_same(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("said")
    for column in ("label", "probabilities"):
        teacher = said(folder / f"{column}.jsonl", [AROUND[form].format(name) for form, name in made], column)
        assert not teacher.unanswered, teacher.notes
        assert [NAMES[one.argmax()] for one in teacher._by_identity.values()] == [name for _, name in made]


@pytest.mark.parametrize("column", ["label", "probabilities"])
@pytest.mark.parametrize("text", NEITHER)
def test_what_names_no_class_or_two_is_no_answer(tmp_path, text, column):
    teacher = said(tmp_path / "a.jsonl", ["refund", text, "delivery"], column)
    assert len(teacher.unanswered) == 1 and "1 of 3 answers cannot be used" in teacher.notes[0] and "row 2" in teacher.notes[0]


@pytest.mark.parametrize("form", [form for form in AROUND if form != "name, then why"])
def test_classes_come_from_the_answers_whatever_stands_around_them(tmp_path, form):
    names = ("delivery", "lost card", "refund")
    teacher = said(tmp_path / "a.jsonl", [AROUND[form].format(name) for name in names * 4], "label", None)
    assert teacher.label_names == names and not teacher.unanswered


@pytest.mark.parametrize(
    "text", ['```json\n{"refund": 0.8, "delivery": 0.2}\n```', 'So: {"probabilities": {"refund": 0.8, "delivery": 0.2}}']
)
def test_probabilities_in_a_block_or_after_words(tmp_path, text):
    assert (
        said(tmp_path / "a.jsonl", [text.replace("{}", '{"refund": 0.8, "delivery": 0.2}')], "probabilities")
        ._by_identity.popitem()[1]
        .argmax()
        == 2
    )


def test_a_class_may_be_called_answer(tmp_path):
    teacher = said(
        tmp_path / "a.jsonl", ['{"answer": 0.9, "question": 0.1}', '{"answer": 0, "question": 1}'], "probabilities", ("answer", "question")
    )
    assert [one.argmax() for one in teacher._by_identity.values()] == [0, 1]


def test_what_was_taken_from_more_is_listed(tmp_path):
    teacher = said(tmp_path / "a.jsonl", ["The label is: refund.", "delivery"], "label")
    assert any("'The label is: refund.' as 'refund'" in note for note in teacher.notes)
