"""The distribution is `understudy-distill`: messages, docs and metadata say so, and the other `understudy` is noticed."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

import understudy
from understudy import installation
from understudy.installation import install_command, namesake_warning

OTHER = re.compile(r"pip install (?:-\S+ )*['\"]?understudy(?![-_\w])")
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SHOWN = [ROOT / "pyproject.toml", ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.*")]


@pytest.mark.parametrize("path", [path for path in SHOWN if path.suffix != ".pyc"], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_tells_to_install_the_other_package(path):
    text = path.read_text("utf-8")
    assert not OTHER.search(text)
    assert not re.search(r"(?<![\w/.])understudy\[", text)


def test_the_pattern_notices():
    for wrong in ("pip install understudy", "pip install --no-deps understudy && x", "pip install 'understudy[x]'"):
        assert OTHER.search(wrong)


def test_every_extra_that_a_message_names_exists():
    named = {extra for path in ROOT.glob("src/**/*.py") for extra in re.findall(r"install_command\('(\w+)'\)", path.read_text("utf-8"))}
    assert {"demo", "export", "search", "serve"} <= named <= set(PROJECT["optional-dependencies"])


def test_the_version_is_read_from_the_package():
    assert PROJECT["name"] == installation.DISTRIBUTION
    assert PROJECT["dynamic"] == ["version"] and re.fullmatch(r"\d+\.\d+\.\d+", understudy.__version__)


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, **files: str) -> None:
    """An installed distribution, as `importlib.metadata` finds it."""
    folder = folder / f"{name.replace('-', '_')}-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 9\n")
    for file, text in files.items():
        (folder / file.replace("direct_url", "direct_url.json")).write_text(text)

    def distribution(asked: str) -> Distribution:
        if asked != name:
            raise PackageNotFoundError(asked)
        return Distribution.at(folder)

    monkeypatch.setattr(installation, "distribution", distribution)


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ({"url": "file://{}", "dir_info": {"editable": True}}, "pip install -e '{}[serve]'"),
        ({"url": "file://{}", "dir_info": {}}, "pip install '{}[serve]'"),
        ({"url": "file://{}/a%20b.whl", "archive_info": {}}, "pip install '{}/a b.whl[serve]'"),
        ({"url": "file://{}/gone.whl", "archive_info": {}}, "pip install '.[serve]' (in a clone of understudy)"),
        (
            {"url": "https://example.org/u.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'understudy-distill[serve] @ git+https://example.org/u.git@abc'",
        ),
        (
            {"url": "https://example.org/u.git", "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "v1"}},
            "pip install 'understudy-distill[serve] @ git+https://example.org/u.git@v1'",
        ),
        (
            {"url": "file:///a/clone", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'understudy-distill[serve] @ git+file://localhost/a/clone@abc'",
        ),
        ({}, "pip install '.[serve]' (in a clone of understudy)"),
    ],
)
def test_the_command_fits_how_it_was_installed(monkeypatch, tmp_path, source, command):
    (tmp_path / "a b.whl").touch()
    text = json.dumps(source).replace("{}", "null") if not source else json.dumps(source).replace("file://{}", f"file://{tmp_path}")
    installed(monkeypatch, tmp_path, "understudy-distill", **({"direct_url": text} if source else {}))
    assert install_command("serve") == command.replace("{}", str(tmp_path))


def test_not_installed_at_all(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "other")
    assert install_command("serve") == "pip install '.[serve]' (in a clone of understudy)"
    assert namesake_warning() is None


def test_the_other_package_is_warned_of(tmp_path):
    folder = tmp_path / "understudy-0.6.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: understudy\nVersion: 0.6.0\n")
    (folder / "RECORD").write_text("understudy/__init__.py,,\nunderstudy/cli.py,,\n")
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}", "PATH": "/usr/bin:/bin"}

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=True)

    command = run("-m", "understudy", "--version")
    assert command.stdout == f"{understudy.__version__}\n"
    assert "pip uninstall understudy understudy-distill" in command.stderr
    assert "another project" in run("-c", "import understudy; understudy.Predictor").stderr


def test_an_old_editable_installation_of_ours_is_not(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "understudy", RECORD="_editable_impl_understudy.pth,,\n")
    assert namesake_warning() is None
