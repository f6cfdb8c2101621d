"""How closely a student follows its teacher, whether the teacher is right or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.evaluation.quality import check_rows

if TYPE_CHECKING:
    from understudy.tasks import Task


def fidelity(task: Task, student_logits: np.ndarray, teacher_logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What the student took over from the teacher, over all rows.

    Args:
        student_logits: (rows, outputs), in the teacher's order of classes.
        teacher_logits: (rows, outputs).
        labels: (rows,).

    Returns:
        `agreement`; and for classes `forward_kl` in nats and the positions of the rows that flipped,
        `teacher_only_right` and `student_only_right`. For numbers, where no row is simply right, these are None.

    Raises:
        DataError: no rows, or arrays that are not of the same rows.
        ModelError: logits that are not finite numbers.
    """
    check_rows(labels, student_logits, teacher_logits)
    found: dict[str, Any] = {"agreement": agreement(task, student_logits, teacher_logits)}
    if task.label_type == "number":
        return found | {"forward_kl": None, "teacher_only_right": None, "student_only_right": None}
    student_right, teacher_right = (task.predictions(logits) == labels for logits in (student_logits, teacher_logits))
    return found | {
        "forward_kl": mean_forward_kl(student_logits, teacher_logits),
        "teacher_only_right": np.flatnonzero(teacher_right & ~student_right).tolist(),
        "student_only_right": np.flatnonzero(student_right & ~teacher_right).tolist(),
    }


def agreement(task: Task, student_logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """Fraction of rows with the same predicted class as the teacher's; for numbers, Pearson with the teacher's.

    Accuracy cannot tell a student that copies the teacher's mistakes from one that makes its own; this can.

    Source: Stanton et al. 2021 (NeurIPS), arXiv:2106.05945, section 3 (average top-1 agreement).
    """
    student, teacher = task.predictions(student_logits), task.predictions(teacher_logits)
    if task.label_type == "class" or (student == teacher).all():
        return float((student == teacher).mean())
    if np.ptp(student) == 0 or np.ptp(teacher) == 0:
        return 0.0
    return float(np.corrcoef(student, teacher)[0, 1])


def mean_forward_kl(student_logits: np.ndarray, teacher_logits: np.ndarray) -> float:
    """Mean KL(teacher ‖ student) over rows at temperature 1, in nats.

    KL = Σ p_teacher · (ln p_teacher − ln p_student), summed over classes.
    """
    from scipy.special import log_softmax

    teacher, student = (log_softmax(logits.astype(np.float64), axis=-1) for logits in (teacher_logits, student_logits))
    return float((np.exp(teacher) * (teacher - student)).sum(axis=-1).mean())
