"""understudy: knowledge distillation for text models, with controls.

Names are loaded when first used, so that `import understudy` and `understudy --help` load no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "DistillationTrainer": "understudy.train.trainer",
    "Predictor": "understudy.runtime",
    "Recipe": "understudy.recipe",
    "TextModel": "understudy.text_model",
    "benchmark": "understudy.benchmarking",
    "distill": "understudy.api",
    "evaluate": "understudy.api",
    "export": "understudy.api",
    "export_model": "understudy.exporting",
    "finetune": "understudy.api",
    "load_recipe": "understudy.recipe_file",
    "plan": "understudy.planning",
    "predict": "understudy.predicting",
    "search": "understudy.api",
    "teach": "understudy.pipeline",
}
_FOLDERS = ("evaluate", "export", "search")
__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604 (names, loaded when first used)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        _check_installation()
        if name in _FOLDERS:  # the folder is called: what one gets does not depend on what was imported before
            return import_module(f"{__name__}.{name}")
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'understudy' has no attribute '{name}'")


def _check_installation() -> None:
    import warnings

    from understudy.installation import namesake_warning

    if warning := namesake_warning():
        warnings.warn(warning, stacklevel=3)
