"""The page: whole, self-contained, safe against what is in the data, and there with the least that a run leaves."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from understudy.errors import RunFolderError
from understudy.report.page import line_chart, nice_ticks, read_metrics, write_page

HOSTILE = "<script>alert('x')</script>\"&{{ 7 * 7 }}"


def entry(value):
    return {
        "parameters": 1000,
        "size_mib": 1.0,
        "quality": {"accuracy": {"value": value, "ci95": [value - 0.1, value + 0.1]}},
        "per_class": [
            {"label": label, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 4} for label in (HOSTILE, "b")
        ],
        "latency_ms": {"p50": 1.0, "p95": 2.0},
        "rows_per_second": 10.0,
        "seconds": 3.0,
    }


FACTS = {
    "understudy": "0.1.0",
    "task": "classification",
    "recipe": HOSTILE,
    "seed": 0,
    "command": f"understudy distill hinton --out '{HOSTILE}'",
    "data": {"train": {"rows": 6920, "sha256": "ab" * 32}, "transfer": None, "notes": [HOSTILE]},
    "primary_metric": "accuracy",
    "models": {"teacher": entry(0.8), "student_alone": entry(0.6), "student": entry(0.7), HOSTILE: entry(0.5)},
    "kept_fraction": 0.875,
    "gain_over_alone": {"value": 0.1, "ci95": [0.02, 0.18], "p_value": 0.004, "test": "McNemar exact"},
    "agreement_with_teacher": 0.95,
    "times_smaller": 12.0,
    "times_faster": 40.0,
}
METRICS = [
    {"model": model, "stage": "distillation", "step": step, **values}
    for model in ("student", "student_alone")
    for step in (10, 20)
    for values in ({"loss": 0.5, "loss/labels": 1 / step}, {"validation": {"accuracy": step / 40}})
]


class Page(HTMLParser):
    """Collects the tags that are open at the end, every attribute, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "facts.json").write_text(json.dumps(FACTS), "utf-8")
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, METRICS)) + '\n{"model": "stu', "utf-8")
    (tmp_path / "recipe.yaml").write_text(f"name: {HOSTILE}\n", "utf-8")
    environment = {"python": "3.11.9", "cores": 2, "packages": {"torch": "2.13.0", HOSTILE: HOSTILE}}
    (tmp_path / "environment.json").write_text(json.dumps(environment), "utf-8")
    return tmp_path


def test_page_is_whole_and_self_contained(folder):
    path = write_page(folder)
    assert path == folder / "report.html"
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert not {"src", "href", "srcset", "data"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not re.search(r"url\(|@import|https?://", text)
    assert sorted(file.name for file in folder.iterdir() if "report" in file.name) == ["report.html"]


def test_page_says_everything(folder):
    words = Page(write_page(folder).read_text("utf-8")).words
    for expected in (
        "The student keeps 88 % of the teacher's accuracy (0.700 of 0.800), is 12× smaller and 40× faster",
        "10.0 points better than the same student without a teacher (p = 0.004)",
        "+10.0 points, 95 % interval +2.0 to +18.0, p = 0.004 (McNemar exact)",
        "0.600–0.800", "0.950", "accuracy on validation rows", "loss: labels",
        "0.333", "6920", "abababababab", "3.11.9", "torch 2.13.0", "2 classes",
    ):  # fmt: skip
        assert expected in words, expected


def test_hostile_text_stays_text(folder):
    text = write_page(folder).read_text("utf-8")
    assert "<script" not in text
    # Title, heading, command, recipe file, note, class; the model's name in table, plot and tooltip; package, version.
    assert Page(text).words.count(HOSTILE) >= 10


def test_drawings_are_well_formed_and_inside_their_box(folder):
    drawings = re.findall(r"<svg.*?</svg>", write_page(folder).read_text("utf-8"), re.DOTALL)
    assert len(drawings) == 3
    for drawing in map(ElementTree.fromstring, drawings):
        _, _, width, height = map(float, drawing.get("viewBox").split())
        for circle in drawing.iter("circle"):
            assert 0 <= float(circle.get("cx")) <= width
            assert 0 <= float(circle.get("cy")) <= height


def test_the_least_that_a_run_leaves(tmp_path):
    (tmp_path / "facts.json").write_text('{"primary_metric": "accuracy"}', "utf-8")
    page = Page(write_page(tmp_path).read_text("utf-8"))
    assert "No student was measured." in page.words
    assert "svg" not in page.tags
    assert "None" not in page.words


@pytest.mark.parametrize("gone", ["metrics.jsonl", "recipe.yaml", "environment.json"])
def test_optional_files(folder, gone):
    (folder / gone).unlink()
    assert Page(write_page(folder).read_text("utf-8")).open == []


@pytest.mark.parametrize("fact", [key for key in FACTS if key != "primary_metric"])
@pytest.mark.parametrize("absent", [True, False])
def test_optional_facts(folder, fact, absent):
    facts = {key: value for key, value in FACTS.items() if key != fact} | ({} if absent else {fact: None})
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
    assert Page(write_page(folder).read_text("utf-8")).open == []


@pytest.mark.parametrize("gone", list(entry(0.5)))
def test_optional_measurements(folder, gone):
    facts = json.loads(json.dumps(FACTS))
    facts["models"]["teacher"][gone] = None
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
    assert Page(write_page(folder).read_text("utf-8")).open == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no facts.json"),
        ("{", "not JSON"),
        ("[]", "one JSON object, got list"),
        ("{}", "not the facts of a run"),
        ('{"primary_metric": "accuracy", "models": 3}', "not the facts of a run"),
    ],
)
def test_a_folder_without_facts_is_refused(tmp_path, text, words):
    if text is not None:
        (tmp_path / "facts.json").write_text(text, "utf-8")
    with pytest.raises(RunFolderError, match=words):
        write_page(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_page_is_written_over(folder):
    (folder / "report.html").write_text("old", "utf-8")
    assert write_page(folder).read_text("utf-8") != "old"
    assert write_page(folder).read_bytes() == write_page(folder).read_bytes()


def test_a_step_logged_twice_counts_once(tmp_path):
    lines = [{"model": "student", "stage": "one", "step": 1, "loss": loss} for loss in (0.9, 0.5)]
    lines.append({"model": "student", "stage": "one", "step": 1, "validation": {"accuracy": 1.0}})
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert read_metrics(tmp_path / "metrics.jsonl") == lines[1:]


def test_stages_follow_each_other(folder):
    lines = [
        {"model": "student", "stage": stage, "step": step, "loss/soft_targets": loss}
        for stage, step, loss in [("one", 50, 0.0), ("one", 100, 1.0), ("two", 50, 0.0), ("two", 100, float("nan"))]
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    text = write_page(folder).read_text("utf-8")
    (points,) = re.findall(r'polyline points="(.*?)"', text)
    across = [float(point.split(",")[0]) for point in points.split()]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)
    assert len(across) == 3


def test_line_chart_by_hand():
    chart = line_chart("loss", {"student": [(0, 0.0), (100, 1.0)], "teacher": []})
    assert [line["name"] for line in chart["lines"]] == ["student"]
    left, right = chart["lines"][0]["points"].split()
    assert left == f"{chart['left']:.1f},{chart['bottom']:.1f}"
    assert right.startswith(f"{chart['right']:.1f},")
    assert line_chart("loss", {"student": []}) is None


def test_long_curves_keep_their_end():
    chart = line_chart("loss", {"student": [(step, step % 7) for step in range(10_001)]})
    points = chart["lines"][0]["points"].split()
    assert len(points) <= 402
    assert points[-1] == "{:.1f},{:.1f}".format(*chart["lines"][0]["last"])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.83, 0.91), (0.5, 0.5), (0, 0), (-3, 250_000), (1e-9, 2e-9), (-2, -2)]
)
def test_ticks_span_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert high <= ticks[-1]
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
