"""What one step of a parameter does: pairs of designs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import Diagnostic, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


def steps(table: pd.DataFrame, parameters: Sequence[str], metric: str) -> pd.DataFrame:
    """Change of `metric` by one step up of each parameter, all else equal.

    `table` is a study's, `parameters` its columns of them. Pairs are evaluated designs of one fidelity that agree in
    every other parameter and have neighbouring values of this one (words in their order). One row per parameter that
    has pairs: parameter, first and last of its values, `values` (how many there are), pairs, and median, low and high
    of metric after / metric before - 1. Raises InputError for an unknown column.
    """
    import pandas as pd

    if not (table["status"] == "ok").any():
        raise InputError(f"no design of this study has numbers, of {len(table):,}")
    for name in (*parameters, metric):
        if name not in table:
            hint = did_you_mean(name, map(str, table.columns))
            raise InputError(Diagnostic(f"unknown column '{name}'", hint=hint))
    done = table[table["status"] == "ok"].copy()
    done[metric] = pd.to_numeric(done[metric], errors="coerce").astype(float)
    done = done[np.isfinite(done[metric])]
    rows = []
    for name in parameters:
        ladder = sorted(done[name].dropna().unique().tolist())
        place = done[name].map({value: number for number, value in enumerate(ladder)})
        others = [other for other in parameters if other != name]
        keys = [*others, "fidelity"]
        # Lists are no keys of a group.
        group = done[keys].astype(str).agg("\x1f".join, axis=1) if len(done) else place
        at = pd.DataFrame({"group": group, "place": place, "value": done[metric]}).sort_values(
            ["group", "place"]
        )
        at = at.drop_duplicates(["group", "place"])
        before = at.groupby("group")[["place", "value"]].shift()
        near = (at["place"] - before["place"] == 1) & (before["value"] != 0)
        change = (at["value"] / before["value"] - 1)[near]
        if len(change):
            spread = (change.median(), change.min(), change.max())
            rows.append((name, ladder[0], ladder[-1], len(ladder), len(change), *spread))
    columns = ["parameter", "first", "last", "values", "pairs", "median", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
