"""Fronts: which points no other beats, and how much of the space of objectives they dominate. All losses: less is
better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BLOCK = 1024


def non_dominated(losses: Float64) -> Bools:
    """Of rows of losses [points, objectives]: which are on the front. Equal rows are on it together.

    Rows are visited by ascending sum, so that what dominates comes first: n x front comparisons.
    """
    count = len(losses)
    kept = np.zeros(count, np.bool_)
    if not count:
        return kept
    order = np.lexsort((*losses.T[::-1], losses.sum(axis=1)))
    front = np.empty((0, losses.shape[1]))
    for start in range(0, count, _BLOCK):
        rows = order[start : start + _BLOCK]
        block = losses[rows]
        alive = ~_dominated(block, front)
        rows = rows[alive]
        kept[rows[_first_come(block[alive])]] = True
        front = losses[kept]
    return kept


def _first_come(rows: Float64) -> list[int]:
    """Which rows are on the front, where whatever dominates a row comes before it: the first that is left, then the
    first of those that it does not dominate, ..."""
    columns, left, found = np.ascontiguousarray(rows.T), np.arange(len(rows)), []
    while len(left):
        found.append(int(left[0]))
        left = left[1:][~_beaten(rows[left[0]], columns[:, left[1:]])]
    return found


def nearly_on_front(losses: Float64, front: Float64, slack: Float64) -> Bools:
    """Which rows would be on the front if every row of `front` were worse by the share `slack` [objectives] of it."""
    return ~_dominated(losses, front + np.abs(front) * slack)


def hypervolume(losses: Float64, reference: Sequence[float]) -> float:
    """Volume between the front of rows [points, objectives] and the reference point, in the product of their units.

    Exact, by slicing along the last objective (While et al. 2006, "A Faster Algorithm for Calculating Hypervolume",
    HSO): two points (1, 3), (2, 1) under (4, 4) dominate 3 + 2 x 2 = 7.
    """
    corner = np.asarray(reference, np.float64)
    inside = losses[(losses < corner).all(axis=1)]
    return _volume(np.unique(inside[non_dominated(inside)], axis=0), corner)


def ideal_and_nadir(losses: Float64) -> tuple[Float64, Float64]:
    """The best of every objective on the front of `losses`, and the worst."""
    front = losses[non_dominated(losses)]
    return front.min(axis=0), front.max(axis=0)


def normalised_hypervolume(losses: Float64, ideal: Float64, nadir: Float64) -> float:
    """Hypervolume with the ideal at 0 and the reference a tenth beyond the nadir, as a share of that box."""
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    scaled = (losses - ideal) / span
    return hypervolume(scaled, [1.1] * losses.shape[1]) / float(1.1 ** losses.shape[1])


def _dominated(rows: Float64, by: Float64) -> Bools:
    """Which rows some row of `by` is nowhere worse than and somewhere better."""
    columns, found = np.ascontiguousarray(rows.T), np.zeros(len(rows), np.bool_)
    for one in by:
        found |= _beaten(one, columns)
    return found


def _beaten(one: Float64, columns: Float64) -> Bools:
    """Which points of columns [objectives, points] one row dominates. By columns: to reduce over a few objectives of
    every point takes longer than to compare them all."""
    nowhere_better, somewhere_worse = one[0] <= columns[0], one[0] < columns[0]
    for value, column in zip(one[1:], columns[1:], strict=True):
        nowhere_better &= value <= column
        somewhere_worse |= value < column
    return np.asarray(nowhere_better & somewhere_worse)


def _volume(front: Float64, corner: Float64) -> float:
    if not len(front):
        return 0.0
    if front.shape[1] == 1:
        return float(corner[0] - front[:, 0].min())
    if front.shape[1] == 2:
        front = front[np.argsort(front[:, 0], kind="stable")]
        lowest = np.minimum.accumulate(front[:, 1])
        widths = np.diff(np.append(front[:, 0], corner[0]))
        return float((widths * (corner[1] - lowest)).sum())
    front = front[np.argsort(front[:, -1], kind="stable")]
    depths = np.diff(np.append(front[:, -1], corner[-1]))
    total = 0.0
    below = np.empty((0, front.shape[1] - 1))
    for row, depth in zip(front, depths, strict=True):
        below = np.concatenate([below, row[None, :-1]])
        below = below[non_dominated(below)]
        if depth > 0:
            total += float(depth) * _volume(below, corner[:-1])
    return total
