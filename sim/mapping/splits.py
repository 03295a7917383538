"""Partitions of a loop nest over cores, and what they make of its loops: worked out once for all designs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.cost.nest_tables import ROLES, signature
from sim.graph.nest import Nest
from sim.mapping.memo import Hashed, Recent, by_identity

if TYPE_CHECKING:
    from sim.cost.cut_table import Shares

Int64 = npt.NDArray[np.int64]
Parts = tuple[int, ...]

_SHAPES: Recent[Hashed[tuple[object, ...]], Hashed[tuple[object, ...]]] = Recent(1 << 14)


@by_identity(1 << 14)
def shape_of(nest: Nest) -> Hashed[tuple[object, ...]]:
    """The nest without names: what its tilings depend on; the same object for equal nests, which compares faster."""
    found = Hashed(signature(nest))
    return _SHAPES.setdefault(found, found)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Partitions over cores, `each` of them the parts of every dimension; as an array, `table` [partitions, dims]. What
    compiled code reads of them for an array and for a vector unit, which cuts no sums over cores: of those that do not,
    `unsummed` [partitions left] (none: None). Compared by identity: `splits_of` makes one of equal ones."""

    each: tuple[Parts, ...]
    table: Int64
    unsummed: Int64
    array: Shares
    vector: Shares | None

    def shares(self, vector: bool) -> Shares | None:
        """What a unit reads; None where no partition is for it."""
        return self.vector if vector else self.array


_SPLITS: Recent[object, Splits] = Recent(1 << 12)


def splits_of(nest: Nest, each: Sequence[Parts]) -> Splits:
    """Partitions (at least one) of a nest, the same object for the same ones of equal nests."""
    key = shape_of(nest), tuple(each)
    found = _SPLITS.get(key)
    if found is None:
        sums = nest.role("k")
        unsummed = [at for at, split in enumerate(each) if not any(split[dim] > 1 for dim in sums)]
        table = np.array(each, np.int64).reshape(len(each), len(nest.dims))
        vector = _shares(nest, [each[at] for at in unsummed], True) if unsummed else None
        found = Splits(key[1], table, np.array(unsummed, np.int64), _shares(nest, each, False), vector)
        found = _SPLITS.setdefault(key, found)
    return found


def _shares(nest: Nest, each: Sequence[Parts], vector: bool) -> Shares:
    """The distinct ways in which partitions cut the roles of a nest over cores; a vector unit cuts no sum into
    tiles."""
    from sim.cost.cut_table import Shares

    numbers: dict[tuple[int, Parts], int] = {}
    roles, over, whole, of_family = [], [], [], []
    for split in each:
        mine = []
        for place, role in enumerate(ROLES):
            dims = nest.role(role)
            key = place, tuple(split[dim] for dim in dims)
            if key not in numbers:
                numbers[key] = len(numbers)
                roles.append(place)
                over.append(split)
                whole.append(not dims or (vector and role == "k"))
            mine.append(numbers[key])
        of_family.append(mine)
    width = len(nest.dims)
    splits, parts = (np.array(rows, np.int64).reshape(len(rows), width) for rows in (each, over))
    return Shares(splits, np.array(of_family, np.int64), np.array(roles, np.int64), parts, np.array(whole, np.int64))


@dataclass(frozen=True, slots=True)
class Local:
    """By partition over cores: which operands every core finds in its own scratchpad, as bit masks [partitions]."""

    splits: Splits
    masks: Int64

    def resident(self, split: Parts, operands: int) -> tuple[bool, ...]:
        """Of every operand: do all cores find it under this partition?"""
        mask = int(self.masks[self.splits.each.index(split)])
        return tuple([bool(mask >> at & 1) for at in range(operands)])

    def mapping(self, operands: int) -> dict[Parts, tuple[bool, ...]]:
        """`resident` of all partitions."""
        return {split: self.resident(split, operands) for split in self.splits.each}


def local_of(nest: Nest, resident: Mapping[Parts, Sequence[bool]]) -> Local:
    """Partitions of a nest with the operands that are resident under each."""
    masks = [sum(1 << at for at, here in enumerate(row) if here) for row in resident.values()]
    return Local(splits_of(nest, tuple(resident)), np.array(masks, np.int64))
