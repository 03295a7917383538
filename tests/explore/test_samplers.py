"""sim/explore/samplers.py: each point once, spread as promised, the same for the same seed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from spaces import space

from sim.errors import InputError
from sim.explore.evaluate import Result
from sim.explore.pareto import ideal_and_nadir, non_dominated, normalised_hypervolume
from sim.explore.samplers import Guided, make_sampler, random_points, sobol_points
from sim.explore.space import Point, Space
from sim.explore.store import StudyPoint
from sim.explore.study import mix

SIDE = 16
WIDE: dict[str, Any] = {
    "core.array.rows": {"from": 1, "to": SIDE, "step": 1},
    "core.vector.lanes": {"from": 1, "to": SIDE, "step": 1},
}


def test_the_grid_is_everything_once() -> None:
    found = list(itertools.chain(*make_sampler("grid", space(), None, 0).rounds()))
    assert found == list(space().points())
    with pytest.raises(InputError, match="the grid is all 18 points, more than the budget of 17"):
        make_sampler("grid", space(), 17, 0)
    huge = {f"core.array.{side}": {"from": 1, "to": 5000, "step": 1} for side in ("rows", "cols")}
    with pytest.raises(InputError, match="25,000,000 points; at most 20,000,000"):
        make_sampler("grid", space(parameters=huge), None, 0)


@pytest.mark.parametrize("points", [random_points, sobol_points])
@pytest.mark.parametrize("count", [1, 40, 256])
def test_a_spread_has_no_point_twice(points: Any, count: int) -> None:
    wide = space(parameters=WIDE)
    found = list(points(wide, count, 7))
    assert len(set(found)) == len(found) == count
    assert found == list(points(wide, count, 7))
    if count == 40:
        assert found != list(points(wide, count, 8))


def test_a_random_sample_of_a_vast_space() -> None:
    """Where no permutation of all points can be held."""
    vast = {f"core.array.{side}": {"from": 1, "to": 5000, "step": 1} for side in ("rows", "cols")}
    found = list(random_points(space(parameters=vast), 500, 1))
    assert len(set(found)) == 500
    assert np.mean([point[0] for point in found]) == pytest.approx(2500, abs=250)  # 4 standard errors


def test_sobol_fills_every_cell_of_a_coarse_grid() -> None:
    """64 points of a Sobol sequence: one in each of the 8 x 8 cells, a property that random points lack."""
    wide = space(parameters=WIDE)
    for seed in range(4):
        cells = {(row // 2, lane // 2) for row, lane in sobol_points(wide, 64, seed)}
        by_chance = {(row // 2, lane // 2) for row, lane in random_points(wide, 64, seed)}
        assert len(cells) >= 56 > len(by_chance)


def losses(wide: Space, point: Point) -> tuple[float, float]:
    """Two bowls with their bottoms at different corners; the front is the diagonal between them."""
    x, y = point[0] / (SIDE - 1), point[1] / (SIDE - 1)
    return (x - 0.1) ** 2 + (y - 0.2) ** 2 + 1, (x - 0.9) ** 2 + (y - 0.7) ** 2 + 1


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe"])
def test_a_guided_sampler_finds_a_known_front_and_obeys_a_constraint(name: str) -> None:
    """On 256 points, 80 evaluations reach 95 % of the front's hypervolume; designs beyond the limit do not count."""
    wide = space(
        parameters=WIDE, objectives={"latency_s": "min", "energy_j": "min"}, constraints=["tasks <= 20"]
    )
    sampler = Guided(name, wide, 80, seed=3)
    seen: dict[Point, tuple[float, float]] = {}
    for points in sampler.rounds():
        rows = []
        for point in points:
            first, second = losses(wide, point)
            metrics = {"latency_s": first, "energy_j": second, "tasks": point[0] + point[1]}
            asked = StudyPoint(point, "event", name, 0, (b"k",))
            rows.append(mix(wide, asked, {b"k": Result("ok", metrics, "", 0.0)}))
            seen[point] = (first, second)
        sampler.tell(rows)
    assert len(seen) == 80
    allowed = [p for p in wide.points() if p[0] + p[1] <= 20]
    whole = np.array([losses(wide, point) for point in allowed])
    found = np.array([value for point, value in seen.items() if sum(point) <= 20])
    corners = ideal_and_nadir(whole)
    share = normalised_hypervolume(found, *corners) / normalised_hypervolume(whole, *corners)
    assert share > 0.95
    assert non_dominated(whole).sum() > 10


def test_a_guided_sampler_ends_where_everything_is_known() -> None:
    small = space()
    sampler = make_sampler("nsga2", small, 1000, 0)
    assert sampler.total == 18
    seen: set[Point] = set()
    for points in sampler.rounds():
        seen.update(points)
        metrics = {"latency_s": 1.0, "energy_j": 1.0, "area_mm2": 1.0}
        asked = [StudyPoint(point, "event", "x", 0, (b"k",)) for point in points]
        sampler.tell([mix(small, one, {b"k": Result("ok", metrics, "", 0.0)}) for one in asked])
    assert len(seen) <= 18
