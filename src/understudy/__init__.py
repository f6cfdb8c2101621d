"""understudy: knowledge distillation for text models, with controls.

Names are loaded when first used, so that `import understudy` and `understudy --help` load no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "DistillationTrainer": "understudy.training.trainer",
    "Predictor": "understudy.runtime",
    "Recipe": "understudy.settings.recipe",
    "TextModel": "understudy.models.text_model",
    "load_recipe": "understudy.settings.loading",
}
# One for each command, in the file of its name.
_PROGRAMS = (
    "benchmark",
    "demo",
    "distill",
    "evaluate",
    "export",
    "finetune",
    "list_",
    "plan",
    "predict",
    "pretrain",
    "report",
    "search",
    "serve",
    "teach",
)
_PUBLIC |= {name: f"understudy.programs.{name}" for name in _PROGRAMS}
__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604 (names, loaded when first used)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        _check_installation()
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'understudy' has no attribute '{name}'")


def _check_installation() -> None:
    import warnings

    from understudy.installation import namesake_warning

    if warning := namesake_warning():
        warnings.warn(warning, stacklevel=3)
