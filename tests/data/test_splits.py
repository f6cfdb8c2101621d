"""Laws of the splits."""

import numpy as np
import pytest

from understudy.data.splits import allocate, held_out, joined_units, stratified_subset

UNITS = [f"text {number}" for number in range(400)]
STRATA = np.random.default_rng(0).choice(["a", "b", "c"], 400, p=[0.7, 0.25, 0.05]).tolist()


def share(mask, stratum):
    return sum(one == stratum for one, out in zip(STRATA, mask, strict=True) if out) / mask.sum()


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.33, 0.8])
def test_held_out_keeps_size_and_proportions(fraction):
    mask = held_out(UNITS, STRATA, fraction, seed=0)
    assert mask.sum() == round(400 * fraction)
    for stratum in "abc":
        assert abs(share(mask, stratum) - STRATA.count(stratum) / 400) <= 1 / mask.sum()


def test_held_out_depends_on_the_seed_and_not_on_the_order():
    mask = held_out(UNITS, STRATA, 0.2, seed=0)
    backwards = held_out(UNITS[::-1], STRATA[::-1], 0.2, seed=0)[::-1]
    assert (mask == backwards).all()
    assert (mask != held_out(UNITS, STRATA, 0.2, seed=1)).any()


def test_units_stay_whole_and_every_stratum_keeps_one():
    units = [f"text {number % 40}" for number in range(400)]
    mask = held_out(units, STRATA, 0.3, seed=0)
    assert not {unit for unit, out in zip(units, mask, strict=True) if out} & {
        unit for unit, out in zip(units, mask, strict=True) if not out
    }
    assert not held_out(["x", "y"], ["a", "b"], 0.5, seed=0).any()  # none to spare
    assert held_out(["x", "y", "z"], ["a", "a", "b"], 0.9, seed=0).tolist()[2] is False


def test_joined_units_are_closed_under_text_and_group():
    assert joined_units(["p", "q", "q", "r", "s"], ["1", "1", "2", "2", "3"]) == ["p", "p", "p", "p", "s"]


def test_subset_has_every_class_and_its_size():
    keep = stratified_subset(UNITS, STRATA, 20, seed=0)
    assert keep.sum() == 20
    assert {one for one, kept in zip(STRATA, keep, strict=True) if kept} == {"a", "b", "c"}
    assert (keep == stratified_subset(UNITS, STRATA, 20, seed=0)).all()
    assert (keep != stratified_subset(UNITS, STRATA, 20, seed=1)).any()


def test_allocation_adds_up_within_its_bounds():
    random = np.random.default_rng(0)
    for _ in range(200):
        sizes = random.integers(1, 50, random.integers(1, 9)).tolist()
        total = int(random.integers(len(sizes), sum(sizes) + 1))
        quotas = allocate(sizes, total, at_least=1)
        assert sum(quotas) == total
        assert all(1 <= quota <= size for quota, size in zip(quotas, sizes, strict=True))
