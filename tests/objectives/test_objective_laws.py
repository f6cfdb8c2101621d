"""Laws of every objective: the folder is walked, with every choice that its settings offer, so a new file is held to them.

A law is tested once for each form of a loss. Which layers are compared, how widths are made equal (here they are) and, where no logits
are read, how many outputs there are, leave the form as it is: with these a law would only see other random numbers.
"""

import typing

import pytest
import torch

from understudy import parts
from understudy.data.examples import nested
from understudy.errors import RecipeError
from understudy.objectives import Objective
from understudy.signals import Attention, Shape, Signals

CLASSES, ROWS = 4, 6
LABELLED = torch.tensor([True, True, False, True, False, True])


def choices(kind: str) -> list[dict]:
    """The defaults, and every single setting that is a choice or a switch, turned."""
    found: list[dict] = [{}]
    for name, field in parts.settings_of(parts.part("objectives", kind)).model_fields.items():
        options = typing.get_args(field.annotation) or ((True, False) if field.annotation is bool else ())
        options = [one for option in options for one in (typing.get_args(option) or (option,))]
        found += [{name: one} for one in options if isinstance(one, str | bool) and one != field.default]
    return found


LAYERS, POSITIONS, WIDTH, HEADS = 3, 5, 8, 2
LENGTHS = torch.tensor([5, 3, 4, 1, 2, 5])
MASK = torch.arange(POSITIONS) < LENGTHS[:, None]

Said = dict[str, torch.Tensor]  # what a model says, by name: logits, hidden 0, query 1, …


def said(outputs: int, draw: torch.Generator) -> Said:
    found = {"logits": 3 * torch.randn(ROWS, outputs, generator=draw)}
    found |= {f"hidden {layer}": torch.randn(ROWS, POSITIONS, WIDTH, generator=draw) for layer in range(LAYERS + 1)}
    head = (ROWS, HEADS, POSITIONS, WIDTH // HEADS)
    return found | {
        f"{name} {layer}": torch.randn(head, generator=draw) for layer in range(1, LAYERS + 1) for name in ("query", "key", "value")
    }


def signals(values: Said) -> Signals:
    layers = range(1, LAYERS + 1)
    return Signals(
        logits=values["logits"],
        hidden_states={layer: values[f"hidden {layer}"] for layer in range(LAYERS + 1)},
        attention={layer: Attention(*(values[f"{name} {layer}"] for name in ("query", "key", "value"))) for layer in layers},
    )


def mapped(change, *several: Said) -> Said:
    return {name: change(*(values[name] for values in several)) for name in several[0]}


def at(value: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Something of a row, or of a row and position, as a mask of a signal."""
    if rows.dim() == 2 and value.dim() == 4:
        return rows[:, None, :, None]
    return rows.view(*rows.shape, *[1] * (value.dim() - rows.dim()))


class Case:
    """An objective, ready, with signals and a batch that fit it."""

    def __init__(self, kind: str, settings: dict, outputs: int) -> None:
        self.kind, self.settings, self.outputs = kind, settings, outputs
        self.objective: Objective = parts.part("objectives", kind)(**settings)
        draw = torch.Generator().manual_seed(0)
        if outputs == 1:
            self.labels = torch.randn(ROWS, generator=draw).masked_fill(~LABELLED, torch.nan)
        else:
            self.labels = torch.randint(outputs, (ROWS,), generator=draw).masked_fill(~LABELLED, -100)
        shape = Shape("model", outputs, LAYERS, WIDTH, HEADS)
        self.objective.prepare(labels=self.labels.numpy(), student=shape, teacher=shape)
        self.student, self.teacher = said(outputs, draw), said(outputs, draw)

    def batch(self, rows=slice(None)) -> dict:
        return nested({"labels": self.labels[rows], "attention_mask": MASK[rows].long()})

    def loss(self, student: Said, teacher: Said | None = None, rows=slice(None)) -> torch.Tensor:
        teacher = mapped(lambda value: value[rows], self.teacher) if teacher is None else teacher
        return self.objective(signals(student), signals(teacher), self.batch(rows))

    def gradient(self, student: Said, teacher: Said | None = None) -> Said:
        student = mapped(lambda value: value.clone().requires_grad_(), student)
        self.loss(student, teacher).backward()
        return mapped(lambda value: torch.zeros_like(value) if value.grad is None else value.grad, student)

    def count_only(self, rows: torch.Tensor) -> None:
        counted = type(self.objective).counted
        self.objective.counted = lambda batch: (found := counted(self.objective, batch)) & at(found, rows)

    def __str__(self) -> str:
        return "-".join([self.kind, *(f"{name}={value}" for name, value in self.settings.items()), str(self.outputs)])


def cases() -> list[Case]:
    found = []
    for kind in parts.kinds("objectives"):
        for settings in choices(kind):
            for outputs in (CLASSES, 1):
                try:
                    found.append(Case(kind, settings, outputs))
                except RecipeError:
                    assert outputs == 1, f"{kind} does not work for classes"
    return found


def is_form(case: Case) -> bool:
    """Whether the loss is computed otherwise than in the cases before it."""
    return not case.settings.keys() & {"layers", "projection"} and (case.outputs == CLASSES or case.objective.student_needs.logits)


CASES = cases()
FORMS = [case for case in CASES if is_form(case)]


@pytest.fixture(params=FORMS, ids=str)
def case(request) -> Case:
    return Case(request.param.kind, request.param.settings, request.param.outputs)


def test_every_choice_is_a_case():
    names = {str(one) for one in CASES}
    assert {one.kind for one in FORMS} == parts.kinds("objectives").keys()
    assert {"labels-target=teacher-1", "patient-pooled=mean-4", "attention_scores-form=probabilities-4"} <= {str(one) for one in FORMS}
    assert {"soft_targets-4", "labels-target=teacher-1", "labels-class_weights=balanced-4"} <= names
    assert {"logit_regression-1", "logit_regression-zero_mean=False-4", "patient-pooled=mean-1", "hidden_states-layers=skip-4"} <= names


def test_least_where_it_says(case):
    """Against the teacher, at the teacher's own signals; against labels, where the student is sure of them."""
    best = mapped(torch.clone, case.teacher)
    if case.kind == "labels":
        target = case.labels if case.objective.target == "gold" else None
        if case.outputs == 1:
            logits = (case.teacher["logits"][:, 0] if target is None else target.nan_to_num())[:, None].clone()
            if case.objective.target == "gold_or_teacher":
                logits[LABELLED, 0] = case.labels[LABELLED]
        else:
            classes = case.teacher["logits"].argmax(-1) if target is None else target.clamp(min=0)
            if case.objective.target == "gold_or_teacher":
                classes = torch.where(LABELLED, case.labels, classes)
            logits = 40.0 * torch.nn.functional.one_hot(classes, case.outputs)
        best["logits"] = logits
    hard = case.settings.get("hard") and case.outputs > 1
    if hard:  # all of the target is the teacher's likeliest class at the beginning
        best["logits"] = 40.0 * torch.nn.functional.one_hot(case.teacher["logits"].argmax(-1), case.outputs)
    least = case.loss(best)
    ends_at_entropy = case.settings.get("divergence") == "cross_entropy" or (
        case.kind == "annealed_targets" and case.outputs > 1 and not hard
    )
    if not ends_at_entropy:
        torch.testing.assert_close(least, torch.tensor(0.0), atol=1e-6, rtol=0)
    for gradient in case.gradient(best).values():
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    for scale in (0.1, 1.0, 10.0):
        draw = torch.Generator().manual_seed(1)
        near = mapped(lambda value, scale=scale, draw=draw: value + scale * torch.randn(value.shape, generator=draw), best)
        assert case.loss(near) >= least
    assert case.loss(case.student) > least + 1e-3, "the law would hold for a constant"


def test_uncounted_rows_change_nothing(case):
    counted = torch.tensor([True, False, False, True, False, True])  # all of them labelled
    case.count_only(counted)
    changed_student = mapped(lambda value: torch.where(at(value, counted), value, value.flip(0) * 7), case.student)
    changed_teacher = mapped(lambda value: torch.where(at(value, counted), value, value.flip(0) * -5), case.teacher)
    assert torch.equal(case.loss(case.student), case.loss(changed_student, changed_teacher))
    gradient, expected = case.gradient(changed_student, changed_teacher), case.gradient(case.student)
    for name in gradient:
        assert not gradient[name][~counted].any()
        torch.testing.assert_close(gradient[name], expected[name])


def test_padding_changes_nothing(case):
    def padded(value, change):
        return value if value.dim() == 2 else torch.where(at(value, MASK), value, change)

    changed_student = mapped(lambda value: padded(value, value * 7 + 1), case.student)
    changed_teacher = mapped(lambda value: padded(value, value * -5 - 1), case.teacher)
    assert torch.equal(case.loss(case.student), case.loss(changed_student, changed_teacher))
    for name, gradient in case.gradient(changed_student, changed_teacher).items():
        assert gradient.dim() == 2 or not torch.where(at(gradient, MASK), 0, gradient).any(), name


def test_the_mean_is_over_what_is_counted(case):
    """What accumulation and several processes rest on: parts, weighted by what they count, give the whole."""
    whole, total = case.objective.counted(case.batch()), 0.0
    assert whole.any()
    for rows in (slice(0, 2), slice(2, 6)):
        share = case.objective.counted(case.batch(rows)).sum() / whole.sum()
        total = total + share * case.loss(mapped(lambda value, rows=rows: value[rows], case.student), rows=rows)
    torch.testing.assert_close(total, case.loss(case.student))


def test_gradient_reaches_the_student_and_never_the_teacher(case):
    student, teacher = (mapped(lambda value: value.clone().requires_grad_(), one) for one in (case.student, case.teacher))
    case.loss(student, teacher).backward()
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in student.values())
    assert all(value.grad is None or not value.grad.any() for value in teacher.values())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_reads_what_it_needs(case):
    """Signals that it did not ask for are not there in a training."""
    unheard = mapped(lambda value: value * 0 - 9, case.student)
    needs = case.objective.student_needs
    names = ["logits"] * needs.logits + [f"hidden {layer}" for layer in needs.hidden_states]
    names += [f"{name} {layer}" for layer in needs.attention for name in ("query", "key", "value")]
    assert names
    loss = case.loss(case.student)
    assert torch.equal(case.loss(unheard | {name: case.student[name] for name in names}), loss)
    for name in names:  # and each of them has a part in it
        assert case.loss(case.student | {name: unheard[name]}) != loss or name.startswith("value"), name


def test_gradient_is_the_derivative(case):
    case.teacher = mapped(torch.Tensor.double, case.teacher)
    case.labels = case.labels.double() if case.outputs == 1 else case.labels
    student = mapped(torch.Tensor.double, case.student)
    heard = [name for name, value in case.gradient(student).items() if value.any()]
    leaves = [student[name].requires_grad_() for name in heard]
    assert torch.autograd.gradcheck(lambda *values: case.loss(student | dict(zip(heard, values, strict=True))), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_finite_for_extreme_signals(case, dtype):
    student = mapped(lambda value: (1e4 * value.sign()).to(dtype), case.student)
    for teacher in (mapped(torch.neg, student), student, mapped(lambda value: value.to(dtype), case.teacher)):
        loss = case.loss(student, teacher)
        assert loss.isfinite() and loss >= 0
        assert all(gradient.isfinite().all() for gradient in case.gradient(student, teacher).values())


def test_bf16_is_near_float32(case):
    rough = case.loss(mapped(torch.Tensor.bfloat16, case.student), mapped(torch.Tensor.bfloat16, case.teacher))
    torch.testing.assert_close(rough.float(), case.loss(case.student), atol=0.05, rtol=0.05)


def test_nothing_counted_backpropagates_zero(case):
    case.count_only(torch.zeros(ROWS, dtype=torch.bool))
    assert case.loss(case.student).item() == 0
    assert not any(gradient.any() for gradient in case.gradient(case.student).values())


def test_counted_is_a_boolean_of_every_row(case):
    counted = case.objective.counted(case.batch())
    assert counted.dtype == torch.bool and counted.shape[0] == ROWS


def test_it_keeps_nothing_of_a_batch(case):
    before = {name: value.clone() for name, value in case.objective.state_dict().items()}
    first = case.loss(case.student)
    case.loss(case.teacher, case.student)
    assert torch.equal(first, case.loss(case.student))
    assert all(torch.equal(before[name], value) for name, value in case.objective.state_dict().items())


@pytest.mark.parametrize("kind", sorted(parts.kinds("objectives")))
def test_docstrings(kind):
    assert parts.kinds("objectives")[kind].endswith(".")
    assert "Args:" in parts.part("objectives", kind).__doc__
