"""The page: whole, self-contained, safe against what is in the data, and there with the least that a run leaves."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

import pytest

from example_run import FACTS, HOSTILE, LINES, NUMBERS, WORST, entry, write_run
from understudy.errors import RunFolderError
from understudy.evaluation.predictions import PREDICTIONS
from understudy.reporting.page import page_content, read_metrics, write_page

SCRIPT = files("understudy.reporting").joinpath("page.js").read_text("utf-8")


class Page(HTMLParser):
    """Collects the tags that are open at the end, every attribute, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br", "wbr", "input"):
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
    return write_run(tmp_path)


def without_script(text):
    assert text.count(SCRIPT) == 1
    return text.replace(SCRIPT, "")


def test_page_is_whole_and_self_contained(folder):
    path = write_page(folder)
    assert path == folder / "report.html"
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"link", "img", "iframe", "object", "base"} & set(page.tags) and page.tags.count("script") == 1
    assert not {"src", "href", "srcset", "data"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttp|innerHTML|eval\(", text)
    assert sorted(file.name for file in folder.iterdir() if "report" in file.name) == ["report.html"]


def test_only_the_pages_own_script_may_run(folder):
    text = write_page(folder).read_text("utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}';" in policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script == SCRIPT


def test_page_says_everything(folder):
    words = Page(write_page(folder).read_text("utf-8")).words
    for expected in (
        "The student keeps 88 % of the teacher's accuracy (0.700 of 0.800), is 12× smaller and 40× faster",
        "10.0 points better than the same student without a teacher (p = 0.004)",
        "+10.0 points, 95 % interval +2.0 to +18.0, p = 0.004 (McNemar with continuity correction)",
        "0.600–0.800",
        "0.950",
        "accuracy on validation rows",
        "loss: labels",
        "accuracy against size, MiB",
        "0.350",
        "0.250",
        "3 classes",
        "6920",
        "abababababab",
        "3.11.9",
        "torch 2.13.0",
        "0.123",
        "1.50",
        "0.045",
        "fitted on validation rows",
        "Of 5 test rows, the teacher is right and the student wrong on 2, and the reverse on 1.",
        "lost and unsure",
    ):
        assert expected in words, expected


def test_it_is_told_in_this_order(folder):
    text = write_page(folder).read_text("utf-8")
    headings = [re.sub(r"<.*?>", "", one) for one in re.findall(r"<h2>(.*?)</h2>", text)]
    assert headings == [
        "Quality against cost",
        "Training",
        "Classes",
        "Confusion matrix: student minus teacher",
        "Calibration",
        "Rows that flipped",
        "Data",
        "Repeat it",
        "Made with",
    ]
    assert (
        text.index('class="headline"')
        < text.index('class="figures"')
        < text.index('class="verdict small"')
        < text.index("<table")
        < text.index("<h2>")
    )


def test_hostile_text_stays_text(folder):
    text = without_script(write_page(folder).read_text("utf-8"))
    assert text.count("<script") == 1 and "<img" not in text and "-->" not in text
    page = Page(text)
    assert page.open == [] and WORST in page.words
    # Title, heading, command, recipe file, note, class; the model's name in table, plot and tooltip; package, version.
    assert page.words.count(HOSTILE) >= 10


def test_a_lone_surrogate_does_not_break_the_page(folder):
    (folder / "facts.json").write_text(json.dumps({**FACTS, "recipe": "half of \ud83d"}), "utf-8")
    assert "half of ?" in write_page(folder).read_text("utf-8")


def test_drawings_are_well_formed_and_inside_their_box(folder):
    write_run(folder, lines=LINES * 5)  # a bin of fewer than 5 rows is not drawn
    drawings = re.findall(r"<svg.*?</svg>", write_page(folder).read_text("utf-8"), re.DOTALL)
    assert len(drawings) == 6  # two of costs, two of training, calibration of teacher and student
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


@pytest.mark.parametrize("gone", ["metrics.jsonl", "recipe.yaml", "environment.json", PREDICTIONS])
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
    flat = {"model": "student", "stage": "one", "step": 1, "validation/accuracy": 1.0}
    assert read_metrics(tmp_path / "metrics.jsonl") == [lines[1], flat]


def test_stages_follow_each_other(folder):
    lines = [
        {"model": "student", "stage": stage, "step": step, "loss/soft_targets": loss}
        for stage, step, loss in [("one", 50, 0.0), ("one", 100, 1.0), ("two", 50, 0.0), ("two", 100, float("nan"))]
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (folder / PREDICTIONS).unlink()
    text = write_page(folder).read_text("utf-8")
    (points,) = re.findall(r'polyline class="curve" points="(.*?)"', text)
    across = [float(point.split(",")[0]) for point in points.split()]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)
    assert len(across) == 3


def test_numbers_have_a_page_of_their_own(tmp_path):
    models = {name: {**entry(0.7), "quality": {"pearson": {"value": 0.7}}} for name in ("teacher", "student")}
    for model in models.values():
        del model["per_class"], model["calibration"]
    write_run(tmp_path, FACTS | {"primary_metric": "pearson", "models": models}, NUMBERS)
    text = write_page(tmp_path).read_text("utf-8")
    page = Page(text)
    assert page.open == [] and "None" not in page.words
    for expected in (
        "the student is farther from the label than the teacher on 2, and nearer on 1",
        "+2.00",
        "−1.50",
        "Rows where they differ",
        "Predictions against labels",
        WORST,
    ):
        assert expected in page.words, expected
    assert not {"Classes", "Calibration", "Confusion"} & set(page.words.split())


def test_a_run_of_several_tasks_sums_up_and_leads_to_its_tasks(tmp_path):
    one = {
        "task": "classification",
        "primary_metric": "accuracy",
        "kept_fraction": 0.9,
        "value": {"teacher": 0.9, "student": 0.8},
        "gain_over_alone": None,
        "gain_over_pseudo_labels": None,
    }
    facts = {
        "understudy": "0.1.0",
        "recipe": "bam",
        "seed": 0,
        "parameters": 1000,
        "tasks": {"a mood": one, HOSTILE: one},
        "mean": {"teacher": 0.9, "student": 0.8},
        "gain_over_alone": None,
        "gain_over_pseudo_labels": None,
    }
    write_run(tmp_path, facts)
    lines = [{"model": "student", "stage": "one", "step": step, "loss/a mood/labels": 0.5} for step in (1, 2)]
    lines.append({"model": "student", "stage": "one", "step": 2, "validation": {"a mood/accuracy": 0.8, "mean": 0.8}})
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    text = write_page(tmp_path, tmp_path / "elsewhere" / "page.html").read_text("utf-8")
    page = Page(text)
    assert page.open == [] and text.count("<script") == 1
    assert ("href", "../a%20mood/report.html") in page.attributes
    for expected in ("for 2 tasks", "a mood: accuracy on validation rows", "mean of the tasks", "loss: a mood: labels"):
        assert expected in page.words, expected


def test_what_was_measured_on_validation_rows_says_so(folder):
    facts = FACTS | {"data": {"test_is_validation": True}}
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
    words = Page(write_page(folder).read_text("utf-8")).words
    assert "The temperatures were fitted on these very rows" in words and "fitted on validation rows" not in words


def test_the_page_can_be_written_elsewhere(folder, tmp_path):
    page = write_page(folder, tmp_path / "new" / "page.html")
    assert page.is_file() and not (folder / "report.html").exists()


def test_a_page_holds_a_part_of_too_many_rows(folder):
    many = [line | {"identity": str(place)} for place in range(400) for line in LINES[:1]]
    found = page_content(FACTS, predictions=many)["flipped"]
    assert (found["lost"], found["won"], len(found["shown"])) == (400, 0, found["most"])
    long = page_content(FACTS, predictions=[LINES[0] | {"text": "x" * 5000}])["flipped"]["shown"][0]["text"]
    assert len(long) < 1100 and long.endswith("…")
