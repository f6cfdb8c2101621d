"""Objectives: one file a loss. Each is a plain function of tensors, and a module that feeds it from `Signals`.

One convention for all: a term is the mean over the positions it counts; which those are, `counted` says. The weight of a term,
and any schedule of it, belongs to the recipe. See docs/architecture.md.
"""

from understudy.objectives.base import LayerObjective, Objective

__all__ = ["LayerObjective", "Objective"]
