"""Objectives: one file a loss. Each is a plain function of tensors, and a module that calls it on `Signals`.

One convention for all: a term is the mean over the positions that its method `counted` marks. The weight of a term, and any
schedule of it, belongs to the recipe. See docs/architecture.md.
"""

from understudy.objectives.base import LayerObjective, Objective

__all__ = ["LayerObjective", "Objective"]
