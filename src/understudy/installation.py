"""How this package was installed: the command that adds an extra, and a warning about the other package of this name.

The distribution is `understudy-distill`; it is not on PyPI. The `understudy` on PyPI is another project, which also installs a
package and a command called `understudy`.
"""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION, NAMESAKE = "understudy-distill", "understudy"


def install_command(extra: str) -> str:
    """The command that installs an extra from the source of this installation: a clone, a wheel or a git URL."""
    source = _source()
    if "vcs_info" in source:
        vcs = source["vcs_info"]
        address = source["url"].replace("file:///", "file://localhost/")  # a requirement needs a host
        url = f"{vcs['vcs']}+{address}@{vcs.get('requested_revision') or vcs['commit_id']}"
        return f"pip install '{DISTRIBUTION}[{extra}] @ {url}'"
    path = Path(unquote(urlsplit(source.get("url", "")).path))
    if source and path.exists():
        editable = "-e " if source.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}'{path}[{extra}]'"
    return f"pip install '.[{extra}]' (in a clone of understudy)"


def namesake_warning() -> str | None:
    """A warning where the other `understudy` is installed too (each overwrites files of the other); None where it is not."""
    try:
        files = distribution(NAMESAKE).files or []
    except PackageNotFoundError:
        return None
    if not any(file.as_posix() == "understudy/__init__.py" for file in files):
        return None  # an old editable installation of this package
    return (
        f"the PyPI package '{NAMESAKE}', another project, is installed in this environment too; it and '{DISTRIBUTION}' "
        f"overwrite each other's files. Run: pip uninstall {NAMESAKE} {DISTRIBUTION}; then install only the one you want"
    )


def _source() -> dict:
    """The source that pip recorded for this package (direct_url.json, PEP 610); empty where there is no record."""
    try:
        return json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return {}
