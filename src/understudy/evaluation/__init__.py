"""Measurements: quality with intervals, the gain and whether it is real, fidelity to the teacher, speed and size."""
