"""Which rows are held out, which are kept: stratified, seeded, and the same whatever the order of the rows."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np


def held_out(units: Sequence[str], strata: Sequence[Hashable], fraction: float, *, seed: int) -> np.ndarray:
    """Which rows to hold out: about `fraction` of the units, whole units only, in the proportions of the strata.

    Every stratum leaves at least one unit behind, so that no class goes missing in training. A unit whose rows are of
    several strata counts as its rarest. (scikit-learn's StratifiedGroupKFold knows only fractions 1/k, and scores every
    group against every fold, which is slow where each row is a group of its own.)

    Args:
        units: one name a row; rows with the same name stay together.
        strata: one a row, usually its class.
        fraction: of the units.
        seed: another one draws other units.

    Returns:
        (rows,) bool. All False when no stratum can spare a unit.

    >>> int(held_out([f"row {n}" for n in range(100)], ["a"] * 70 + ["b"] * 30, 0.2, seed=0)[:70].sum())
    14
    """
    rows_of = Counter(strata)
    stratum_of: dict[str, Hashable] = {}
    for unit, stratum in zip(units, strata, strict=True):
        stratum_of[unit] = min(stratum_of.get(unit, stratum), stratum, key=lambda candidate: (rows_of[candidate], str(candidate)))
    members = defaultdict(list)
    for unit in sorted(stratum_of, key=lambda unit: _draw(seed, unit)):
        members[stratum_of[unit]].append(unit)
    drawn = sorted(members, key=lambda stratum: _draw(seed, str(stratum)))  # breaks ties between strata fairly
    quotas = allocate([len(members[stratum]) for stratum in drawn], max(1, round(fraction * len(stratum_of))), spare=1)
    chosen = {unit for stratum, quota in zip(drawn, quotas, strict=True) for unit in members[stratum][:quota]}
    return np.array([unit in chosen for unit in units], dtype=bool)


def stratified_subset(identities: Sequence[str], strata: Sequence[Hashable], rows: int, *, seed: int) -> np.ndarray:
    """Which `rows` rows to keep: in the proportions of the strata, at least one of each.

    Returns:
        (rows,) bool.

    >>> int(stratified_subset(["x", "y", "z"], ["a", "a", "b"], 2, seed=0).sum())
    2
    """
    members = defaultdict(list)
    for row in sorted(range(len(identities)), key=lambda row: (_draw(seed, identities[row]), row)):
        members[strata[row]].append(row)
    drawn = sorted(members, key=lambda stratum: _draw(seed, str(stratum)))
    quotas = allocate([len(members[stratum]) for stratum in drawn], rows, at_least=1)
    keep = np.zeros(len(identities), dtype=bool)
    keep[[row for stratum, quota in zip(drawn, quotas, strict=True) for row in members[stratum][:quota]]] = True
    return keep


def allocate(sizes: Sequence[int], total: int, *, at_least: int = 0, spare: int = 0) -> list[int]:
    """Share `total` out in proportion to `sizes` by largest remainder; at most `size - spare` each, if that allows it.

    >>> allocate([70, 20, 10], 10)
    [7, 2, 1]
    >>> allocate([97, 2, 1], 10, spare=1)
    [10, 0, 0]
    """
    exact = [total * size / sum(sizes) for size in sizes]
    limits = [max(size - spare, 0) for size in sizes]
    quotas = [min(max(int(share), at_least), limit) for share, limit in zip(exact, limits, strict=True)]
    while sum(quotas) < total:
        open_indices = [index for index in range(len(sizes)) if quotas[index] < limits[index]]
        if not open_indices:
            break
        quotas[max(open_indices, key=lambda index: exact[index] - quotas[index])] += 1
    while sum(quotas) > total:
        quotas[min((index for index in range(len(sizes)) if quotas[index] > at_least), key=lambda index: exact[index] - quotas[index])] -= 1
    return quotas


def joined_units(identities: Sequence[str], groups: Sequence[Hashable]) -> list[str]:
    """Units in which rows of the same identity are together and so are rows of the same group.

    >>> joined_units(["a", "b", "b", "c"], [1, 1, 2, 3])
    ['a', 'a', 'a', 'c']
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    number: dict[Hashable, int] = {}
    texts = [number.setdefault(("identity", identity), len(number)) for identity in identities]
    grouped = [number.setdefault(("group", group), len(number)) for group in groups]
    edges = coo_matrix((np.ones(len(texts)), (texts, grouped)), shape=(len(number), len(number)))
    component = connected_components(edges, directed=False)[1][texts]
    first: dict[int, str] = {}
    for part, identity in zip(component.tolist(), identities, strict=True):
        first[part] = min(first.get(part, identity), identity)
    return [first[part] for part in component.tolist()]


def _draw(seed: int, key: str) -> bytes:
    """A random number of this key alone: adding or moving other rows does not change it."""
    return hashlib.blake2b(f"{seed} {key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
