import json as json_
from typing import Annotated, Literal

import typer

from understudy.cli import _options as options

What = Literal["recipes", "objectives", "students", "augmenters", "tasks"]


def command(
    what: Annotated[What, typer.Argument(help="What to list.")],
    json: options.Json = False,
) -> None:
    """List what there is.

    \b
    understudy list recipes
    understudy list students
    """
    from understudy.parts import kinds
    from understudy.recipe_file import packaged

    found = packaged() if what == "recipes" else kinds(what)
    if json:
        print(json_.dumps(found, ensure_ascii=False))
        return
    width = max(map(len, found))
    for name, line in found.items():
        print(f"{name:<{width}}  {line}")
