"""A folder of the package that can be called like the public function of its name: `understudy.evaluate(…)`."""

from importlib import import_module
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """Calls the function of `understudy.api` that has the module's name."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(import_module("understudy.api"), self.__name__.rpartition(".")[2])(*arguments, **named)
