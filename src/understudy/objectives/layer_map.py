"""Which layer of the student learns from which layer of the teacher."""

from __future__ import annotations

from typing import Literal

from understudy.errors import RecipeError
from understudy.signals import Shape

LayerMap = Literal["uniform", "skip", "last", "final"] | list[tuple[int, int]]


def resolve(layers: LayerMap, student: Shape, teacher: Shape, *, where: str, lowest: int = 1) -> list[tuple[int, int]]:
    """Pairs (student's layer, teacher's layer); 1 is the first layer, 0 is the output of the embeddings.

    With M layers in the student and N in the teacher, where N need not be a multiple of M:

    - `uniform`: m ↔ m·N/M, the last layers with each other. Jiao et al. 2020, arXiv:1909.10351, section 4.1.
    - `skip`: the same without the last layer. PKD-skip: Sun et al. 2019, arXiv:1908.09355, section 3.2.
    - `last`: the layers below the last, 1 … M−1 ↔ N−M+1 … N−1. PKD-last: the same section.
    - `final`: the last layers only.
    - a list of pairs.

    Args:
        layers: one of these.
        student: sizes of the student.
        teacher: sizes of the teacher.
        where: the objective's kind, for messages.
        lowest: 0 where a list may name the embeddings, else 1.

    Raises:
        RecipeError: a model without layers, a missing layer, a pair that is listed twice, or no pair at all.

    >>> twelve, six = Shape("teacher", 2, layers=12), Shape("student", 2, layers=6)
    >>> resolve("skip", six, twelve, where="patient")
    [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]
    >>> resolve("last", six, twelve, where="patient")
    [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]
    """
    for model in (student, teacher):
        if not model.layers:
            raise RecipeError(
                f"objective {where} compares layers, but the {model.name} has none that can be matched; "
                f"use logit_regression or soft_targets, or another {model.name.partition(' ')[0]}"
                + (f" ({model.why})" if model.why else "")
            )
    small, large = student.layers, teacher.layers
    if isinstance(layers, list):
        for place, pair in enumerate(layers):
            if pair in layers[:place]:
                raise RecipeError(f"{where}.layers has {list(pair)} twice; give the objective a larger weight instead")
            for number, model in zip(pair, (student, teacher), strict=True):
                if not lowest <= number <= model.layers:
                    raise RecipeError(
                        f"{where}.layers has {list(pair)}: the {model.name} has no layer {number}; allowed are {lowest} to {model.layers}"
                    )
        pairs = [(student_layer, teacher_layer) for student_layer, teacher_layer in layers]
    elif small > large and layers != "final":
        raise RecipeError(
            f"{where}.layers is '{layers}', but the {student.name} has {small} layers and the {teacher.name} {large}; "
            "give the student fewer, or list pairs"
        )
    else:
        even = [(number, max(1, number * large // small)) for number in range(1, small + 1)]
        pairs = {
            "uniform": even,
            "skip": even[:-1],
            "last": [(number, large - small + number) for number in range(1, small)],
            "final": [(small, large)],
        }[layers]
    if not pairs:
        raise RecipeError(
            f"{where}.layers is '{layers}', which matches no layer of the {student.name} ({small}); "
            "use `final` or `uniform`, or list pairs [student's, teacher's]"
        )
    return pairs
