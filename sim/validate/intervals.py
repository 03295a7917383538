"""Error bars from validation: between which factors of the prediction the measurements of a family and regime lay."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.hw.chip import Chip
from sim.report.error_bars import REGIMES, Interval, band_edges, workings
from sim.validate.errors import row_regime
from sim.validate.prediction import Compared

FEWEST_ROWS = 8
"""A family and regime with fewer measurements gets no interval."""

TAIL = 0.035
"""Share of the measurements beyond either end. Less than 5 %: an interval should hold nine in ten of rows that it
was not made of."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How intervals made of one half of the rows hold the other: the share of its rows inside, and the median over
    rows of the interval's width in percent of the prediction."""

    rows: int
    inside_pct: float
    median_width_pct: float


def make_intervals(chip: Chip, compared: Sequence[Compared]) -> list[Interval]:
    """One interval per family, regime and band of intensities with enough rows."""
    found = []
    edges = (0.0, *band_edges(chip), math.inf)
    groups: dict[tuple[str, str, int], list[Compared]] = {}
    for one in compared:
        if _tells(one):
            groups.setdefault(_group(chip, one), []).append(one)
    for (family, regime, band), rows in sorted(
        groups.items(), key=lambda item: (item[0][0], REGIMES.index(item[0][1]), item[0][2])
    ):
        if len(rows) < FEWEST_ROWS:
            continue
        ratio = np.array([_ratio(one) for one in rows])
        times = [one.prediction.latency_s for one in rows]
        intensity = [one.prediction.macs_per_dram_byte for one in rows]
        low, high = np.quantile(ratio, [TAIL, 1 - TAIL])
        least, most = min(intensity), max(intensity)
        # Bands meet where both have rows.
        least = edges[band] if len(groups.get((family, regime, band - 1), ())) >= FEWEST_ROWS else least
        most = edges[band + 1] if len(groups.get((family, regime, band + 1), ())) >= FEWEST_ROWS else most
        ends = (float(low), float(high), min(times), max(times), least, most)
        found.append(
            Interval(chip.name, workings(chip), family, regime, len(rows), *(_short(x) for x in ends))
        )
    return found


def coverage(chip: Chip, compared: Sequence[Compared]) -> Coverage | None:
    """Intervals of either half against the other; None where there are none."""
    inside: list[bool] = []
    widths: list[float] = []
    for fold in (0, 1):
        made = make_intervals(chip, [one for one in compared if one.row.fold == fold])
        bars = {(one.family, one.regime, _band(chip, one.least_macs_per_byte)): one for one in made}
        for one in compared:
            if one.row.fold == fold or not _tells(one):
                continue
            bar = bars.get(_group(chip, one))
            if bar is not None:
                inside.append(bar.low <= _ratio(one) <= bar.high)
                widths.append(100 * (bar.high - bar.low))
    if not inside:
        return None
    return Coverage(len(inside), 100 * float(np.mean(inside)), float(np.median(widths)))


def _group(chip: Chip, one: Compared) -> tuple[str, str, int]:
    """Family, regime and band of intensities."""
    return one.row.family or "", row_regime(one), _band(chip, one.prediction.macs_per_dram_byte)


def _band(chip: Chip, macs_per_byte: float) -> int:
    return bisect_right(band_edges(chip), macs_per_byte)


def _tells(one: Compared) -> bool:
    """Does a row tell of the chip? Not one that was refused, nor one that is the host's for the most part."""
    return not one.prediction.refused and one.host_s <= one.prediction.latency_s


def _ratio(one: Compared) -> float:
    """Measured to predicted time on the device: what the host adds is taken off where its clock was read."""
    return (one.row.measured_s - one.host_s) / one.prediction.latency_s


def _short(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")
