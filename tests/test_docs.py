"""What the README and the docs show is true: commands parse, settings exist, links and paths resolve, code names what there is."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

import understudy
from understudy import parts
from understudy.cli import _options as options
from understudy.cli import app
from understudy.cli._recipe import recipe_from
from understudy.settings.finetune import ENCODER_TRAINING, FinetuneSettings
from understudy.settings.loading import build
from understudy.settings.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_A_RECIPE = ("recipe", "teacher", "student", "task", "train", "validation", "test", "transfer", "column", "set_", "seed")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text("utf-8")) if found == language]


def commands(page: Path) -> list[list[str]]:
    """Every `understudy …` line of a page's shell blocks, and of its running text."""
    text = page.read_text("utf-8")
    lines = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(understudy [^`]+)`", BLOCK.sub("", text))
    found = []
    for line in lines:
        words = shlex.split(line, comments=True) if "understudy " in line else []
        if "understudy" in words and words[0] in ("understudy", "accelerate"):
            found.append(words[words.index("understudy") + 1 :])
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the docs tell their reader to write."""
    for page in PAGES:
        for language in ("python", "yaml"):
            for code in blocks(page, language):
                first = re.match(r"# (\w+\.(?:py|yaml))\n", code)
                if first:
                    (tmp_path / first[1]).write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_command(words: list[str]) -> None:
    """Parse as the command line does, then build the settings, so that keys after `--set` are checked too."""
    group = typer.main.get_command(app)
    if words[0].startswith("--"):
        assert words[0] in ("--help", "--version", "--install-completion")
        return
    name, *arguments = words
    assert name in group.commands, f"no command {name}"  # type: ignore[attr-defined]
    command = group.commands[name]  # type: ignore[attr-defined]
    # Options must exist; what a sentence leaves out (`understudy finetune` first) need not be there.
    given = command.make_context(name, arguments, resilient_parsing=len(words) == 1).params
    if len(words) > 1 and name in ("plan", "distill") and not words[1].endswith("recipe.yaml"):
        recipe_from(*[given[option] for option in OF_A_RECIPE], store=None, control=given["control"], no_control=given["no_control"])
    elif len(words) > 1 and name == "finetune":
        values = options.overrides(**{key: given[key] for key in ("task", "train", "validation", "test", "column", "seed", "set_")})
        build(FinetuneSettings, {"model": given["model"], "train": dict(ENCODER_TRAINING)}, values, where="docs")


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse(name: str, folder: Path) -> None:
    for words in commands(ROOT / name):
        try:
            check_command(words)
        except Exception as error:
            pytest.fail(f"{name}: understudy {shlex.join(words)}: {type(error).__name__}: {error}")


def test_commands_are_found_and_a_wrong_one_is_noticed(folder: Path) -> None:
    assert len(commands(ROOT / "README.md")) >= 5
    assert len(commands(ROOT / "docs" / "start.md")) >= 15
    for wrong in ("distil hinton", "distill hinton --techer x", "distill hinton --set stages.0.train.epoch=3", "list recipe"):
        with pytest.raises(Exception, match=r"."):
            check_command(wrong.split())


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text("utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name} links to {link}"
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{name} links to {link}"


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = next(code for code in blocks(ROOT / "README.md", "") if code.startswith("src/understudy/"))
    inside = set()
    for line in tree.splitlines():
        path = line.split()[0]
        place = ROOT / "src" / "understudy" / path if line.startswith(" ") else ROOT / path
        assert place.is_dir(), f"README: {path} is not there"
        inside |= {path.rstrip("/")} if line.startswith(" ") else set()
    there = {path.parent.name for path in (ROOT / "src" / "understudy").glob("*/*.*") if path.parent.name[:2] != "__"}
    assert there == inside


def test_the_chinese_readme_is_the_twin() -> None:
    """The same sections, commands and links; its example is Chinese, and so are the pages it links to, where there are any."""
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    levels = [re.findall(r"^#+(?= )", page.read_text("utf-8"), re.MULTILINE) for page in (english, chinese)]
    assert levels[0] == levels[1]
    assert [words[:1] for words in commands(english)] == [words[:1] for words in commands(chinese)]
    demo, other = (re.search(r"<!-- demo -->\n(```.*?```)", page.read_text("utf-8"), re.DOTALL) for page in (english, chinese))
    assert demo and other and demo[1] == other[1]
    links = [re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8")) for page in (english, chinese)]
    assert links[0][1:] == [link.replace("docs/zh/", "docs/").replace(".zh.svg", ".svg") for link in links[1][1:]]
    pages = {f"docs/{page.name}" for page in (ROOT / "docs" / "zh").glob("*.md")}
    assert not pages & set(links[1]), "a link to an English page that there is in Chinese"


@pytest.mark.parametrize("page", ["README.zh.md", *(f"docs/zh/{name}.md" for name in ("start", "data", "choosing"))])
def test_chinese_punctuation(page: str) -> None:
    """Full-width beside Chinese characters, except in code; and one word for a recipe."""
    text = re.sub(r"`[^`]*`", "", BLOCK.sub("", (ROOT / page).read_text("utf-8")))
    text = re.sub(r"\]\([^)]*\)", "]", text)
    wrong = re.findall(r".{0,8}(?:[\u4e00-\u9fff][,:;()!?]|[,:;()!?][\u4e00-\u9fff]).{0,8}", text)
    assert not wrong
    assert "方案与设置" not in text and "食谱" not in text


def times_faster(*students: str) -> list[float]:
    """What docs/results.md measured of students beside the MiniLM (the Chinese teacher is another)."""
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    text = re.sub(r"### Chinese\n.*?(?=### )", "", text, flags=re.DOTALL)
    rows = re.findall(r"^\| ([\w ]+) \|.* ([\d.]+)× \|$", text, re.MULTILINE)
    return [float(factor) for name, factor in rows if name.startswith(students)]


def test_speeds_are_those_of_the_tables() -> None:
    """A range of factors on a first page is the least and the most that docs/results.md has of these students."""
    small, static, half = times_faster("bilstm", "static", "narrow"), times_faster("static"), times_faster("three")
    assert len(small) > 12 and 1.5 < min(half) < max(half) < 2.5, "half of the layers are about twice as fast"
    for page, students in (("README", small), ("docs/choosing", static)):
        chinese = page.replace("docs/", "docs/zh/") if page.startswith("docs/") else f"{page}.zh"
        for path, pattern in ((f"{page}.md", r"(\d+) to (\d+)\s+times"), (f"{chinese}.md", r"(\d+) 至 (\d+) 倍")):
            found = re.findall(pattern, (ROOT / path).read_text("utf-8"))
            assert found == [(f"{min(students):.0f}", f"{max(students):.0f}")], path


@pytest.mark.parametrize("name", NAMES)
def test_what_is_pasted_needs_no_filling_in(name: str) -> None:
    """A block of commands has no placeholder of an address: nobody knows where the reader cloned from."""
    text = (ROOT / name).read_text("utf-8")
    for code in blocks(ROOT / name, ""):
        assert not re.search(r"git clone|git\+|\b[A-Z]+-URL\b|\bHOST\b|example\.(?:org|com)", code), code
    for address in re.findall(r"git\+([^\"'`\n]*)", text):
        assert address in ("<the URL you cloned from>", "<克隆时用的 URL>"), f"{name}: git+{address}"
    for version in re.findall(r"understudy_distill-(\d[^-]*)-", text):
        assert version == understudy.__version__


def test_the_readme_tells_how_to_test() -> None:
    targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for page in PAGES:
        shown = re.findall(r"^make (\w+)", "\n".join(blocks(page, "")), re.MULTILINE)
        assert set(shown) <= set(targets), page.name
    assert "make test" in "\n".join(blocks(ROOT / "README.md", ""))


@pytest.mark.parametrize("name", NAMES)
def test_python_blocks_name_what_there_is(name: str) -> None:
    importlib.import_module("understudy.programs.distill")
    for code in blocks(ROOT / name, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("understudy"):
                module = importlib.import_module(node.module or "")
                for one in node.names:
                    assert hasattr(module, one.name), f"{name}: {node.module} has no {one.name}"
                    # A folder of the package may not stand where a function of the same name is promised.
                    assert not inspect.ismodule(getattr(module, one.name)) or callable(getattr(module, one.name)), (
                        f"{name}: {node.module}.{one.name} is a module"
                    )


@pytest.mark.parametrize("name", NAMES)
def test_yaml_blocks_are_recipes(name: str, folder: Path) -> None:
    for code in blocks(ROOT / name, "yaml"):
        build(Recipe, yaml.safe_load(code), {}, where=name)


def test_the_training_defaults_shown_are_those_of_the_kinds() -> None:
    text = (ROOT / "docs" / "students.md").read_text("utf-8")
    shown = re.findall(r"^\| `(\w+)` \| (\d+) \| ([\d,]+) \| (\d+) \| (\S+) \|$", text, re.MULTILINE)
    assert {kind for kind, *_ in shown} == set(parts.kinds("students"))
    for kind, epochs, least, batch_size, learning_rate in shown:
        there = parts.part("students", kind).training  # type: ignore[attr-defined]
        assert there == {
            "epochs": int(epochs),
            "min_updates": int(least.replace(",", "")),
            "batch_size": int(batch_size),
            "learning_rate": float(learning_rate),
        }, kind


@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_too_long(name: str) -> None:
    """Tables and what programs wrote may be; a reader's editor should not scroll for prose."""
    text = (ROOT / name).read_text("utf-8").partition("<!-- tables -->")[0]
    text = re.sub(r"(<!-- demo -->).*?(<!-- /demo -->)", r"\1\2", text, flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        assert len(line) <= 145 or line.startswith("|"), f"{name}, line {number}: {len(line)} characters"


PRIVATE = re.compile(r"\b(lies? in|hangs? on|mends?|hears?|is told|whatever is true|the proof)\b", re.IGNORECASE)


def messages(path: Path) -> str:
    """The strings of a module that are no docstrings: what it may print."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)
    }
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return "\n".join(node.value for node in strings if id(node) not in docs)


READ = [*PAGES, *(path for kind in ("py", "yaml", "html", "js") for path in sorted((ROOT / "src").rglob(f"*.{kind}")))]


@pytest.mark.parametrize("path", READ, ids=lambda path: path.name)
def test_users_read_the_words_of_the_field(path: Path) -> None:
    text = messages(path) if path.suffix == ".py" else path.read_text("utf-8")
    found = PRIVATE.search(text)
    assert not found, f"{path.name}: {text[max(0, found.start() - 40) : found.end() + 40]!r}"
