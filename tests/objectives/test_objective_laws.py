"""Laws of every objective: the folder is walked, with every choice that its settings offer, so a new file is held to them."""

import typing

import pytest
import torch

from understudy import parts
from understudy.errors import RecipeError
from understudy.objectives import Objective
from understudy.signals import Signals

CLASSES, ROWS = 4, 6
LABELLED = torch.tensor([True, True, False, True, False, True])


def choices(kind: str) -> list[dict]:
    """The defaults, and every single setting that is a choice or a switch, turned."""
    found: list[dict] = [{}]
    for name, field in parts.settings_of(parts.part("objectives", kind)).model_fields.items():
        options = typing.get_args(field.annotation) or ((True, False) if field.annotation is bool else ())
        options = [one for option in options for one in (typing.get_args(option) or (option,))]
        found += [{name: one} for one in options if not isinstance(one, type) and one not in (None, field.default)]
    return found


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
        self.objective.prepare(labels=self.labels.numpy(), outputs=outputs)
        self.student = 3 * torch.randn(ROWS, outputs, generator=draw)
        self.teacher = 3 * torch.randn(ROWS, outputs, generator=draw)

    def batch(self, rows=slice(None)) -> dict:
        return {"labels": self.labels[rows]}

    def loss(self, student, teacher=None, rows=slice(None)) -> torch.Tensor:
        teacher = self.teacher[rows] if teacher is None else teacher
        return self.objective(Signals(logits=student), Signals(logits=teacher), self.batch(rows))

    def gradient(self, student, teacher=None) -> torch.Tensor:
        student = student.clone().requires_grad_()
        self.loss(student, teacher).backward()
        return student.grad

    def count_only(self, counted: torch.Tensor) -> None:
        self.objective.counted = lambda batch: counted  # type: ignore[method-assign]

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


@pytest.fixture(params=cases(), ids=str)
def case(request) -> Case:
    return Case(request.param.kind, request.param.settings, request.param.outputs)


def test_every_choice_is_a_case():
    names = {str(one) for one in cases()}
    assert {"soft_targets-4", "labels-target=teacher-1", "labels-class_weights=balanced-4"} <= names
    assert {"logit_regression-1", "logit_regression-zero_mean=True-4"} <= names


def test_least_where_it_says(case):
    """Against the teacher, at the teacher's own signals; against labels, where the student is sure of them."""
    if case.kind == "labels":
        target = case.labels if case.objective.target == "gold" else None
        if case.outputs == 1:
            best = (case.teacher[:, 0] if target is None else target.nan_to_num())[:, None].clone()
            if case.objective.target == "gold_or_teacher":
                best[LABELLED, 0] = case.labels[LABELLED]
        else:
            classes = case.teacher.argmax(-1) if target is None else target.clamp(min=0)
            if case.objective.target == "gold_or_teacher":
                classes = torch.where(LABELLED, case.labels, classes)
            best = 40.0 * torch.nn.functional.one_hot(classes, case.outputs)
    else:
        best = case.teacher.clone()
    torch.testing.assert_close(case.loss(best), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(case.gradient(best), torch.zeros_like(best), atol=1e-6, rtol=0)
    for scale in (0.1, 1.0, 10.0):
        assert case.loss(best + scale * torch.randn(best.shape, generator=torch.Generator().manual_seed(1))) >= 0
    assert case.loss(case.student) > 1e-3, "the law would hold for a constant"


def test_uncounted_positions_change_nothing(case):
    counted = torch.tensor([True, False, False, True, False, True])  # all of them labelled
    case.count_only(counted)
    changed_student = torch.where(counted[:, None], case.student, case.student.flip(0) * 7)
    changed_teacher = torch.where(counted[:, None], case.teacher, case.teacher.flip(0) * -5)
    assert torch.equal(case.loss(case.student), case.loss(changed_student, changed_teacher))
    gradient = case.gradient(changed_student, changed_teacher)
    assert torch.equal(gradient[~counted], torch.zeros_like(gradient[~counted]))
    torch.testing.assert_close(gradient, case.gradient(case.student))


def test_the_mean_is_over_what_is_counted(case):
    """What accumulation and several processes rest on: parts, weighted by what they count, give the whole."""
    whole, total = case.objective.counted(case.batch()), 0.0
    assert whole.any()
    for rows in (slice(0, 2), slice(2, 6)):
        share = case.objective.counted(case.batch(rows)).sum() / whole.sum()
        total = total + share * case.loss(case.student[rows], rows=rows)
    torch.testing.assert_close(total, case.loss(case.student))


def test_gradient_reaches_the_student_and_never_the_teacher(case):
    student, teacher = case.student.clone().requires_grad_(), case.teacher.clone().requires_grad_()
    case.loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None or not teacher.grad.any()


def test_gradient_is_the_derivative(case):
    case.teacher = case.teacher.double()
    case.labels = case.labels.double() if case.outputs == 1 else case.labels
    assert torch.autograd.gradcheck(case.loss, case.student.double().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_finite_for_extreme_logits(case, dtype):
    student = (1e4 * case.student.sign()).to(dtype)
    for teacher in (-student, student, case.teacher.to(dtype)):
        loss = case.loss(student, teacher)
        assert loss.isfinite() and loss >= 0
        assert case.gradient(student, teacher).isfinite().all()


def test_bf16_is_near_float32(case):
    rough = case.loss(case.student.bfloat16(), case.teacher.bfloat16())
    torch.testing.assert_close(rough.float(), case.loss(case.student), atol=0.05, rtol=0.05)


def test_nothing_counted_backpropagates_zero(case):
    case.count_only(torch.zeros(ROWS, dtype=torch.bool))
    student = case.student.clone().requires_grad_()
    loss = case.loss(student)
    loss.backward()
    assert loss.item() == 0 and torch.equal(student.grad, torch.zeros_like(student))


def test_counted_is_a_boolean_of_every_row(case):
    counted = case.objective.counted(case.batch())
    assert counted.dtype == torch.bool and counted.shape == (ROWS,)


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
