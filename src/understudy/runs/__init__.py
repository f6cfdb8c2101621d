"""Runs: one run, from what it needs to what it proves; `folder` is where it is written."""
