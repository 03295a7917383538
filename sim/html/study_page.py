"""The page of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.explore.metrics import metric_unit, show_metric
from sim.explore.study import Study
from sim.html.page import page, plain
from sim.plot.style import words_of
from sim.units import dimension_of_column

if TYPE_CHECKING:
    import pandas as pd

_LIMITS = {"min": "lowest", "max": "highest"}
DIGITS = 9
"""Significant digits of numbers on the page: a third of the size of all 17."""
_NOT_METRICS = ("status", "error", "fidelity", "sampler", "feasible", "on_front", "wall_s", "key")
_BODY = """<div id="warnings"></div>
<div id="cards" class="cards"></div>
<h2>Pareto front</h2>
<p><label>x <select id="x"></select></label><label>y <select id="y"></select></label>
<button id="reset">show all</button> <b id="selected"></b></p>
<div id="front" class="plot"></div>
<p class="quiet">Drag a box over the designs above, or along the axes below: what is selected in one is selected in all.
A double click, or a click on a brushed axis, takes the selection away. <span id="drawn"></span></p>
<div id="parallel" class="plot"></div>
<h2>Designs</h2>
<p class="quiet">Those selected, at most 200 of them; click a head to sort.</p>
<div id="points" class="scroll"></div>
<h2>Inputs</h2>
<details><summary>Plan of the study: space, sampler, budget</summary><pre id="manifest"></pre></details>
"""


def study_page(study: Study) -> str:
    """The HTML page of a study: its front, parallel coordinates and designs, linked. Numbers have DIGITS digits."""
    table = study.designs
    parameters = [column for column, _ in study.columns.values()]
    objectives = [{"metric": one.metric, "direction": one.direction} for one in study.objectives]
    limits = [
        {"metric": one.metric, "limit": one.limit, "comparison": one.comparison, "text": one.text}
        for one in study.constraints
    ]
    asked = dict.fromkeys([*(one["metric"] for one in objectives), *(one["metric"] for one in limits)])
    outcomes = [name for name in asked if name in table]
    metrics = [
        name for name in table if name not in (*parameters, *_NOT_METRICS) and _has_numbers(table, str(name))
    ]
    columns = {
        str(name): _values(table[name].tolist()) for name in (*parameters, *metrics, *_NOT_METRICS[:-1])
    }
    shown = [*parameters, *outcomes, "on_front", "feasible", "status", "fidelity"]
    data = {
        "cards": study_cards(study),
        "warnings": _warnings(study),
        "columns": columns,
        "parameters": parameters,
        "metrics": metrics,
        "outcomes": outcomes,
        "objectives": objectives,
        "constraints": limits,
        "shown": shown,
        "manifest": dict(study.plan),
    }
    models = ", ".join(workload.name for workload in study.space.workloads)
    subtitle = f"{models} on variants of {study.space.chip_data.get('name', 'a chip')}"
    return page(f"Study {study.name}", subtitle, _BODY, plain(data), "study.js")


def _has_numbers(table: pd.DataFrame, name: str) -> bool:
    return any(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in table[name])


def _values(values: list[Any]) -> list[Any]:
    """Numbers with DIGITS digits; what is neither a number, a word nor absent, as text."""
    return [_value(value) for value in values]


def _value(value: Any) -> Any:
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float | np.floating):
        return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else str(value)


def study_cards(study: Study) -> list[tuple[str, str, str]]:
    """Label, text and metric (or what is counted) of the cards at the head of the page."""
    table = study.designs
    failed, by_events = (int(found.sum()) for found in (table["status"] != "ok", table["fidelity"] == "event"))
    found = [
        ("designs", f"{len(table):,}", "designs"),
        ("simulated with events", f"{by_events:,}", "events"),
        ("failed or not fitting", f"{failed:,}", "not_ok"),
        ("beyond a constraint", f"{int((~table['feasible']).sum()) - failed:,}", "beyond"),
        ("on the front", f"{int(table['on_front'].sum()):,}", "on_front"),
    ]
    front = study.front
    for one in study.objectives:
        if len(front):
            value = float(front[one.metric].astype(float).agg(one.direction))
            label = f"{_LIMITS[one.direction]} {words_of(one.metric)}"
            unit = "" if dimension_of_column(one.metric) else f" {metric_unit(one.metric)}"
            found.append((label, (show_metric(one.metric, value) + unit).rstrip(), one.metric))
    found += [("constraint", one.text, one.metric) for one in study.constraints]
    return found


def _warnings(study: Study) -> list[str]:
    return [] if study.table["on_front"].any() else ["No design holds every constraint: there is no front."]
