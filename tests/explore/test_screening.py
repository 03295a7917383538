"""sim/explore/screening.py: who is confirmed, and what is said of the disagreement."""

from __future__ import annotations

import numpy as np
import pytest
from spaces import space

from sim.explore.screening import disagreement, neighbourhood, spearman, to_confirm
from sim.explore.sweep import sweep
from sim.html.study_page import study_cards


def test_the_neighbourhood_is_near_in_objectives_or_one_step_away() -> None:
    one = space(
        parameters={"core.array.rows": {"from": 1, "to": 6, "step": 1}},
        objectives={"latency_s": "min", "area_mm2": "min"},
    )
    points = list(one.points())
    losses = np.array([[10.0, 10.0], [11.5, 10.0], [10.5, 10.0], [11.5, 10.0], [20.0, 10.0], [11.0, 10.5]])
    # 0 is the front; 2 is within 10 %; 1 is one step from 0 and within 20 %, 3 is no neighbour of 0; 4 is far;
    # 5 is within 10 % in both, but area is the same at both fidelities and gets no slack.
    assert neighbourhood(one, points, losses, 0.1) == [0, 1, 2]
    assert neighbourhood(one, points, losses, 0.0) == [0]
    assert neighbourhood(one, points, losses, 0.2) == [0, 1, 2, 3, 5]


def test_rank_correlation_by_hand() -> None:
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 30, 99])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])) == pytest.approx(-1)
    # Ties at their mean rank: ranks 0.5 0.5 2 against 0 1 2.
    assert spearman(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(np.sqrt(3) / 2)
    assert spearman(np.array([1.0, 2]), np.array([1.0, 2])) is None
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None


def test_a_screening_confirms_its_front_and_the_front_is_of_events() -> None:
    study = sweep(space(), workers=1, fidelity="screen")
    table = study.table
    confirmed = table[table["fidelity"] == "event"]
    assert (table["fidelity"] == "bound").sum() == 18
    assert 0 < len(confirmed) < 18
    assert set(table[table["on_front"]]["fidelity"]) == {"event"}
    events = sweep(space(), workers=1).table
    merged = confirmed.merge(
        events, on=[column for column, _ in study.columns.values()], suffixes=("", "_all")
    )
    assert len(merged) == len(confirmed)
    assert merged["latency_s"].tolist() == merged["latency_s_all"].tolist()
    # Every design once, by its events where it has them: what figures and pages count.
    parameters = [column for column, _ in study.columns.values()]
    assert len(study.designs) == 18
    assert not study.designs.duplicated(parameters).any()
    shown = study.designs[study.designs["fidelity"] == "event"]
    assert shown["latency_s"].tolist() == confirmed["latency_s"].tolist()
    cards = {label: text for label, text, _ in study_cards(study)}
    assert (cards["designs"], cards["simulated with events"]) == ("18", str(len(confirmed)))
    told = disagreement(study)
    assert told is not None
    latency = told.objectives[0]
    bound = table[table["fidelity"] == "bound"].merge(confirmed, on=[c for c, _ in study.columns.values()])
    ratios = bound["latency_s_y"] / bound["latency_s_x"]
    assert (latency.least_ratio, latency.greatest_ratio) == (ratios.min(), ratios.max())
    assert latency.median_ratio == ratios.median()
    assert told.kept + told.joined == table["on_front"].sum()
    assert disagreement(sweep(space(), workers=1, fidelity="bound")) is None


def test_a_design_that_the_bound_puts_just_beyond_a_limit_is_confirmed() -> None:
    """The limit lies between the bound and the events of the fastest design, on the side of the bound or beyond."""
    one = space(parameters={"core.array.rows": [4, 8, 16]}, objectives={"latency_s": "min"})
    bound, event = (sweep(one, workers=1, fidelity=fidelity) for fidelity in ("bound", "event"))  # type: ignore[arg-type]
    fastest = int(event.table["latency_s"].argmin())
    power_w = bound.table["power_w"][fastest]
    for share, expected in ((0.95, True), (0.5, False)):
        limited = space(
            parameters={"core.array.rows": [4, 8, 16]},
            objectives={"latency_s": "min"},
            constraints=[f"power_w <= {power_w * share} W"],
        )
        found = to_confirm(sweep(limited, workers=1, fidelity="bound"), 0.1)
        assert ((fastest,) in found) == expected
