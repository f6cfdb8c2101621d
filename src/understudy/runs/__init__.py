"""Runs: a run, from its plan to its measurements; `folder` is its folder on disk."""
