"""Makes the own model classes known to the Auto classes of `transformers`. Importing it is enough.

Every file of this folder that holds a `PreTrainedModel` with its config is found, so a new kind needs no line here.
"""

from importlib import import_module
from inspect import isclass

from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from understudy.parts import kinds

for _kind in kinds("students"):
    _module = import_module(f"understudy.students.{_kind}")
    for _class in list(vars(_module).values()):
        if isclass(_class) and issubclass(_class, PreTrainedModel) and _class.__module__ == _module.__name__:
            _config = _class.config_class
            assert _config is not None
            AutoConfig.register(_config.model_type, _config, exist_ok=True)
            AutoModelForSequenceClassification.register(_config, _class, exist_ok=True)
