"""Names of classes that are probably misspellings of another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from itertools import combinations

_NEAR = 0.8  # of `SequenceMatcher.ratio`, word by word
_RARE = 5  # times as rare, a near name is a slip of the other
_LONGEST = 100  # characters of a name


def misspelt(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Rare names beside a frequent one that differs by a slip of letters, each with it; and names that differ only in case, blanks,
    `_` or `-`, however frequent they are.

    Names of other digits are of other classes, and so are those that begin with more than a letter before the other (`relevant` and
    `irrelevant`).

    Args:
        counts: name → how often it is there.

    >>> misspelt({"billing": 156, "biling": 8, "level 1": 90, "level 2": 3, "toxic": 99, "nontoxic": 9, "signup": 2, "sign_up": 3})
    [('biling', 'billing'), ('signup', 'sign_up')]
    """
    slips: dict[str, str] = {}
    ordered = sorted((name for name in counts if len(name) <= _LONGEST), key=lambda name: (-counts[name], name))
    words = {name: re.split(r"[\s_-]+", name.casefold().strip()) for name in ordered}
    joined = {name: "".join(parts) for name, parts in words.items()}
    for often, seldom in combinations(ordered, 2):
        if seldom in slips or often in slips:
            continue
        if joined[often] == joined[seldom] or (counts[often] >= _RARE * counts[seldom] and _near(words[often], words[seldom])):
            slips[seldom] = often
    return sorted(slips.items())


def _near(first: list[str], second: list[str]) -> bool:
    return len(first) == len(second) and all(a == b or _a_slip(a, b) for a, b in zip(first, second, strict=True))


def _a_slip(first: str, second: str) -> bool:
    if re.sub(r"\D", "", first) != re.sub(r"\D", "", second):
        return False
    shorter, longer = sorted((first, second), key=len)
    if len(longer) - len(shorter) > 1 and longer.endswith(shorter):
        return False
    matcher = SequenceMatcher(None, longer, shorter, autojunk=False)
    return matcher.real_quick_ratio() >= _NEAR and matcher.quick_ratio() >= _NEAR and matcher.ratio() >= _NEAR
