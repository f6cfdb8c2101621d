"""Embeddings: the input of the first layer."""

from __future__ import annotations

from understudy.objectives.hidden_states import HiddenStates


class Embeddings(HiddenStates):
    """Squared difference of the embeddings' outputs, mean over tokens and width; a learned map where widths differ.

    Pick it beside `hidden_states` where the student's embeddings are not the teacher's. Words, positions and types are summed and
    normalised before they are compared.

    Args:
        none: this objective has no settings.

    Source: Jiao et al. 2020, arXiv:1909.10351, equation 9.
    """

    def __init__(self) -> None:
        super().__init__(layers=[(0, 0)])
