"""The text that a language model wrote → the answer in it, without code block, lead-in, bold or quotes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

LABEL_KEYS = ("label", "answer", "class", "category", "prediction", "intent", "sentiment", "topic", "result", "output")
NAMES_FOR_LABEL = "|".join((*LABEL_KEYS, "classification", "response"))
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(r"```(?:json|jsonl|python|text|txt|plaintext|markdown)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_OPENED = re.compile(r"\A```(?:json|jsonl|python|text|txt|plaintext|markdown)?\s*", re.IGNORECASE)
_AROUND = re.compile(
    r"""(\*{1,3}|`+)(?P<a>.+)\1 | ["'“”„«»](?P<b>[^"“”„«»]+)["'“”„«»] | [「『《‘](?P<c>.+)[」』》’]
    | \[(?P<d>[^\[\]]+)\] | <(?P<e>[^<>]+)>""",
    re.VERBOSE | re.DOTALL,
)
_LEAD_IN = re.compile(
    rf"""(?:(?:sure|okay|ok|certainly|here\s(?:is|are)|here's)[,.!:]*\s+)*
    (?:(?:the|my|your|this|its|final|predicted|correct|best|most|likely|likeliest|appropriate|suitable|assigned|chosen)\s+)*
    (?:(?:text|message|sentence|review)(?:'s|’s)?\s+)?
    (?:{NAMES_FOR_LABEL})
    (?:\s+(?:of|for)\s+(?:the|this|your)\s+[\w-]+)?
    \s*(?:is|would\sbe|should\sbe|[:=：])[\s:：]*
    | (?:最终)?(?:标签|类别|分类|答案|结果)\s*(?:是|为|应为|[:：=])[\s:：]*""",
    re.VERBOSE | re.IGNORECASE,
)
_END = " \t\n.,;。，；"


def literal(text: str) -> Any:
    """JSON or a Python literal; the text itself where it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text


def answer_in(text: str) -> Any:
    """The only object or list in a text, parsed; else the text without thoughts and code block.

    >>> answer_in('Here it is:\\n```json\\n{"refund": 0.9}\\n```'), answer_in('Sure! {"label": "refund"}'), answer_in("```1```")
    ({'refund': 0.9}, {'label': 'refund'}, '1')
    """
    whole = literal(text)
    if isinstance(whole, str) and whole != text:  # a text in quotes
        return answer_in(whole)
    text = _THOUGHTS.sub("", text).strip()
    blocks = {block.strip() for block in _BLOCK.findall(text)}
    text = blocks.pop() if len(blocks) == 1 else text if blocks else _OPENED.sub("", text)
    value = literal(text)
    if not isinstance(value, dict | list | tuple) and (inner := re.search(r"\{.*\}", text, re.DOTALL)):
        value = literal(inner[0])
    return value if isinstance(value, dict | list | tuple) else text


def label_in(text: str) -> str:
    """The label in a text: the words after a lead-in, without bold, quotes and the full stop; without a lead-in, the whole text.

    >>> [label_in(text) for text in ("**refund**.", 'The label is: "refund".', "Label: refund\\nReason: money", "类别：退款。")]
    ['refund', 'refund', 'refund', '退款']
    >>> label_in("Label: refund\\nLabel: delivery"), label_in("It is not a refund")
    ('Label: refund\\nLabel: delivery', 'It is not a refund')
    """
    bare = _bare(text)
    plain = [_bare(re.sub(r"\*{2,3}", "", line)) for line in bare.splitlines()]
    lines = [line[match.end() :] for line in plain if (match := _LEAD_IN.match(line))]
    labels = {_bare(line.rstrip(_END)) for line in lines} - {""}
    return labels.pop() if len(labels) == 1 else bare


def label_of(answer: Mapping[str, Any], classes: frozenset[str]) -> Any:
    """The label in an object, as in `{"label": "refund", "reason": …}`; None where it has none, or several.

    Args:
        answer: the object.
        classes: known names of classes; a class may be called `answer`, which then is no key of a label.
    """
    keys = [name for name in answer if name.casefold() in LABEL_KEYS and name not in classes]
    values = [answer[name] for name in keys]
    values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    labels = [value for value in values if isinstance(value, str | int) and literal(str(value).strip()) not in (None, "")]
    return labels[0] if len(set(map(str, labels))) == 1 and len(labels) == len(keys) else None


def _bare(text: str) -> str:
    """A text without the bold, quotes or brackets around it."""
    while True:
        text = text.strip()
        match = _AROUND.fullmatch(text.rstrip(_END))
        if match is None:
            return text
        text = next(inner for inner in match.group("a", "b", "c", "d", "e") if inner is not None)
