"""The ways to cut the loops of a nest into tiles, compiled: the levels that the mapper's tile search chooses from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.levels import ELEMENTS, FIRST, PER_OPERAND, fill_level, role_extent
from sim.cost.nest_tables import AXES, DENOMINATOR, HIGH, LOW, OPERANDS, TERMS
from sim.cost.tiles import largest_part, parts_of
from sim.jit import jit, jit_bare, jit_inline

MOST_WAYS = 64
"""Room for the ways to cut one loop: two rows of `grid.counts` up to some thousand."""


class Shares(NamedTuple):
    """What partitions over cores `splits` [families, dims] make of the roles of a nest: the share `of_family`
    [families, 4] of each role; of every share its `role`, parts over cores `over` [shares, dims], and whether it is
    kept `whole` [shares]. Everything int64."""

    splits: Any
    of_family: Any
    role: Any
    over: Any
    whole: Any


@jit
def share_levels(
    t: Any, shares: Shares, quanta: Any, coarse: bool, most: int, single: Any, single_begin: Any
) -> tuple[Any, Any]:
    """The levels (sim/cost/levels.py) of the first nest by which its shares are cut at multiples of `quanta` [dims]:
    those of a share in rows `begin[share]` and on, the last of which is the role as a whole, cut evenly.

    Within a role, an inner loop is cut only where the outer ones are cut down to single indices, so that tiles stay
    contiguous in memory: the rows of sim.mapping.candidates.cut_table, whose arguments `coarse` and `most` are.
    `single` and `single_begin` are these levels for cuts anywhere (quanta of 1), from which is copied what does not
    depend on the quanta; none (of no rows), where they are to be made.
    """
    count, dims = len(shares.role), len(quanta)
    parts, steps, tile = np.empty(MOST_WAYS, np.int64), np.ones(dims, np.int64), np.ones(dims, np.int64)
    begin = np.zeros(count + 1, np.int64)
    for share in range(count):
        if len(single) > 0 and not _by_granules(t, shares, share, quanta):
            begin[share + 1] = begin[share] + single_begin[share + 1] - single_begin[share]
            continue
        begin[share + 1] = begin[share] + 2
        for dim in range(dims):
            if t.role[0, dim] == shares.role[share] and shares.whole[share] == 0:
                begin[share + 1] += _ways(t, shares, share, dim, quanta, coarse, most, parts)
    levels = np.empty((begin[count], FIRST + PER_OPERAND * (1 + t.nests[0, OPERANDS]) + dims))
    for share in range(count):
        row, end, role = begin[share], begin[share + 1] - 1, shares.role[share]
        if len(single) > 0 and not _by_granules(t, shares, share, quanta):
            levels[row : end + 1] = single[single_begin[share] : single_begin[share + 1]]
            continue
        for dim in range(dims):
            steps[dim] = 1
            if t.role[0, dim] == role:
                tile[dim] = largest_part(t.extent[0, dim], shares.over[share, dim], quanta[dim])
        _fill(t, role, steps, tile, levels[row])
        for dim in range(dims):
            if t.role[0, dim] == role and shares.whole[share] == 0:
                extent, over = t.extent[0, dim], shares.over[share, dim]
                for way in range(_ways(t, shares, share, dim, quanta, coarse, most, parts)):
                    row += 1
                    steps[dim] = parts[way]
                    tile[dim] = largest_part(extent, over * parts[way], quanta[dim])
                    _fill(t, role, steps, tile, levels[row])
                steps[dim] = extent // over
                tile[dim] = largest_part(extent, over * steps[dim], quanta[dim])
        if len(single) > 0:
            levels[end] = single[single_begin[share + 1] - 1]
        else:
            _fill_even(t, shares, share, steps, tile, levels[end])
    return levels, begin


@jit_bare
def _by_granules(t: Any, shares: Shares, share: int, quanta: Any) -> bool:
    """Do the granules of the cuts change the levels of a share?"""
    found = False
    for dim in range(len(quanta)):
        found = found or (t.role[0, dim] == shares.role[share] and quanta[dim] > 1)
    return found


@jit_bare
def _ways(t: Any, shares: Shares, share: int, dim: int, quanta: Any, coarse: bool, most: int, parts: Any) -> int:
    """The numbers of tiles, more than one and ascending, that a loop of a share is cut into, into `parts`; how many:
    those of `grid.counts`, and those that give tiles of so many whole granules. Where it is `coarse`, the innermost
    loop of the role is not cut into tiles of less than four indices."""
    extent, least = t.extent[0, dim] // shares.over[share, dim], 0
    if coarse and extent > 16:
        least = 4
        for inner in range(dim + 1, len(quanta)):
            if t.role[0, inner] == t.role[0, dim]:
                least = 0
    found = 0
    for granules in range(2 if quanta[dim] > 1 else 1):
        total = parts_of(extent, quanta[dim]) if granules == 1 else extent
        step, largest = 1, min(total, most)
        while step <= largest:
            for size in (step, step * 3 // 2 if 1 < step <= 8 else step):
                if size <= largest:
                    number = parts_of(total, size) if granules == 1 else size
                    found = _insert(parts, found, number, extent, least)
            step *= 2
        if total <= most:
            found = _insert(parts, found, 1 if granules == 1 else total, extent, least)
    return found


@jit_bare
def _insert(parts: Any, count: int, number: int, extent: int, least: int) -> int:
    """Put a number of tiles with at least so many indices each in its place; how many there are now."""
    if number < 2 or extent // number < least:
        return count
    place = count
    while place > 0 and parts[place - 1] >= number:
        if parts[place - 1] == number:
            return count
        place -= 1
    for other in range(count, place, -1):
        parts[other] = parts[other - 1]
    parts[place] = number
    return count + 1


@jit_bare
def _fill(t: Any, role: int, steps: Any, tile: Any, level: Any) -> None:
    """One level with the tiles per core of every loop."""
    fill_level(t, 0, role, steps, tile, level)
    for dim in range(len(steps)):
        level[len(level) - len(steps) + dim] = steps[dim]


@jit_bare
def _fill_even(t: Any, shares: Shares, share: int, steps: Any, tile: Any, level: Any) -> None:
    """A share as a whole, wherever its cuts are even, with what its tiles load at the least."""
    role = shares.role[share]
    for dim in range(len(steps)):
        steps[dim] = 1
        if t.role[0, dim] == role:
            tile[dim] = largest_part(t.extent[0, dim], shares.over[share, dim], 1)
    _fill(t, role, steps, tile, level)
    for operand in range(t.nests[0, OPERANDS] + 1):
        level[FIRST + PER_OPERAND * operand + ELEMENTS] = _least_elements(t, operand, role, tile)


@jit_inline
def _least_elements(t: Any, operand: int, role: int, tile: Any) -> float:
    """Elements of an operand along a role that all tiles of a part load at least, however it is cut into tiles: small
    ones skip what lies between the strides of a convolution, large ones load what windows share once."""
    elements = 1.0
    for axis in range(t.operands[0, operand, AXES]):
        mine, extent, _ = role_extent(t, 0, operand, axis, role, tile)
        below = t.axes[0, operand, axis, DENOMINATOR]
        reach = 1.0 + (t.axes[0, operand, axis, HIGH] - t.axes[0, operand, axis, LOW]) / below
        for term in range(t.axes[0, operand, axis, TERMS]):
            dim = t.terms[0, operand, axis, term, 0]
            if t.role[0, dim] == role:
                reach = min(reach * tile[dim], reach + (tile[dim] - 1) * t.terms[0, operand, axis, term, 1] / below)
        if mine:
            elements *= min(extent, reach) if t.axes[0, operand, axis, TERMS] else extent
    return elements
