"""sim/explore/pareto.py against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sim.explore.pareto import hypervolume, nearly_on_front, non_dominated, normalised_hypervolume


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 7, 200, 1500])
def test_the_front_is_what_no_other_dominates(objectives: int, count: int) -> None:
    losses = np.random.default_rng(count).integers(0, 12, (count, objectives)).astype(float)
    beaten = [((losses <= row).all(axis=1) & (losses < row).any(axis=1)).any() for row in losses]
    assert non_dominated(losses).tolist() == [not each for each in beaten]


def test_equal_points_are_on_the_front_together() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]])).tolist() == [True, True, False]


def test_hypervolume_by_hand() -> None:
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0]]), [4, 4]) == 7
    assert hypervolume(np.array([[1.0], [3.0]]), [4]) == 3
    assert hypervolume(np.array([[1.0, 5.0]]), [4, 4]) == 0
    assert hypervolume(np.array([[0.0, 0, 0, 0]]), [1, 2, 3, 4]) == 24
    assert normalised_hypervolume(np.array([[0.0, 0.0]]), np.zeros(2), np.ones(2)) == pytest.approx(1)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_is_the_union_of_boxes(objectives: int) -> None:
    """Counted cell by cell on a grid, which is exact for whole numbers."""
    rng = np.random.default_rng(objectives)
    for _ in range(5):
        losses = rng.integers(0, 6, (9, objectives)).astype(float)
        cells = itertools.product(range(6), repeat=objectives)
        union = sum(bool((losses <= np.array(cell)).all(axis=1).any()) for cell in cells)
        assert hypervolume(losses, [6] * objectives) == union


def test_slack_widens_the_front_by_a_share() -> None:
    front = np.array([[10.0, 10.0]])
    losses = np.array([[10.9, 10.0], [11.0, 10.0], [10.5, 10.5], [12.0, 12.0], [10.0, 10.5]])
    slack = np.array([0.1, 0.0])
    assert nearly_on_front(losses, front, slack).tolist() == [True, True, True, False, True]
    assert nearly_on_front(losses, front, np.zeros(2)).tolist() == [False] * 5
