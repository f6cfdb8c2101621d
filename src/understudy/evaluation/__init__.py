"""Measurements: quality with intervals, the gain and its significance, agreement with the teacher, speed and size."""
