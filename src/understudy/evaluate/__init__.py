"""Measurements: quality with intervals, the gain and whether it is real, fidelity to the teacher, speed and size."""

import sys

from understudy.callable_module import CallableModule

sys.modules[__name__].__class__ = CallableModule
