"""Error bars from validation: between which factors of the prediction the measurements of a family and regime lay."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.hw.chip import Chip
from sim.report.error_bars import REGIMES, Interval, band_edges, bar_regime, time_edges, utilization, workings
from sim.validate.errors import row_regime
from sim.validate.prediction import Compared

Float64 = npt.NDArray[np.float64]

FEWEST_ROWS = 8
"""A family and regime with fewer measurements gets no interval."""

FEWEST_IN_BAND = 24
"""A band of fewer measurements is told together with the next one: of fewer, hardly any could be left out."""

SHARE = 0.925
"""Of all measurements that come, the share that an interval is made to hold. More than nine in ten: of the intervals
that would hold as many of the rows, the narrowest is taken, which holds a little less of others."""

_NUMBERS = (
    *("low", "high", "shortest_s", "longest_s"),
    *("least_macs_per_byte", "most_macs_per_byte", "least_utilization", "most_utilization"),
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How intervals made of one half of the rows hold the other: the share of its rows inside, and the median over
    rows of the interval's width in percent of the prediction."""

    rows: int
    inside_pct: float
    median_width_pct: float


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows of a family and regime, and the intensities and times that they stand for."""

    rows: tuple[Compared, ...]
    intensities: tuple[float, float]
    times_s: tuple[float, float]


def make_intervals(chip: Chip, compared: Sequence[Compared]) -> list[Interval]:
    """One interval per family, regime and band of intensities and times with enough rows."""
    groups: dict[tuple[str, str], list[Compared]] = {}
    for one in compared:
        if _tells(one):
            family = one.row.family or ""
            groups.setdefault((family, bar_regime(chip, family, row_regime(one))), []).append(one)
    found = []
    for (family, regime), rows in sorted(groups.items(), key=lambda item: (item[0][0], REGIMES.index(item[0][1]))):
        if len(rows) < FEWEST_ROWS:
            continue
        used = _utilizations(chip, rows)
        dtypes = " ".join(sorted({one.row.dtype for one in rows}))
        for band in _bands(chip, family, rows):
            held = narrowest(np.array([_ratio(one) for one in band.rows]))
            ends = (*held, *band.times_s, *band.intensities, *used)
            short = [_short(value, up=bool(number % 2)) for number, value in enumerate(ends)]
            numbers = dict(zip(_NUMBERS, short, strict=True))
            found.append(Interval(chip.name, workings(chip), family, regime, len(band.rows), **numbers, dtypes=dtypes))
    return found


def _utilizations(chip: Chip, rows: Sequence[Compared]) -> tuple[float, float]:
    """Least and most of the arrays' peak that the predictions of a family and regime use; 0 of what multiplies nothing.
    All bands share them, as bands are by intensity and time."""
    used = [
        utilization(chip, one.row.dtype, math.prod(one.row.shape), one.prediction.latency_s)
        for one in rows
        if one.row.family == "matmul"
    ]
    known = [value for value in used if value is not None]
    return (min(known), max(known)) if known else (0.0, 0.0)


def narrowest(ratios: Float64) -> tuple[float, float]:
    """The narrowest interval with so many of the ratios that it should hold SHARE of those that come: of n + 1 places
    that another ratio may take among n, it must have that share; all n where they are too few for it.

    Of 99 ratios 1 to 99: 93 of them, 1 to 93.
    """
    ordered = np.sort(ratios)
    inside = min(len(ordered), math.ceil(SHARE * (len(ordered) + 1)))
    widths = ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]
    first = int(np.argmin(widths))
    return float(ordered[first]), float(ordered[first + inside - 1])


def coverage(chip: Chip, compared: Sequence[Compared]) -> Coverage | None:
    """Intervals of either half against the other; None where there are none. Rows beyond the times and intensities of
    all intervals have none and are not counted."""
    inside: list[bool] = []
    widths: list[float] = []
    for fold in (0, 1):
        made = make_intervals(chip, [one for one in compared if one.row.fold == fold])
        for one in compared:
            bar = None if one.row.fold == fold or not _tells(one) else interval_of(chip, made, one)
            if bar is not None:
                inside.append(bar.low <= _ratio(one) <= bar.high)
                widths.append(100 * (bar.high - bar.low))
    if not inside:
        return None
    return Coverage(len(inside), 100 * float(np.mean(inside)), float(np.median(widths)))


def interval_of(chip: Chip, made: Sequence[Interval], one: Compared) -> Interval | None:
    """The interval that a row of a chip falls into."""
    family, p = one.row.family or "", one.prediction
    asked = family, bar_regime(chip, family, row_regime(one))
    return next(
        (
            bar
            for bar in made
            if (bar.family, bar.regime) == asked
            and bar.least_macs_per_byte <= p.macs_per_dram_byte <= bar.most_macs_per_byte
            and bar.shortest_s <= p.latency_s <= bar.longest_s
        ),
        None,
    )


def _bands(chip: Chip, family: str, rows: Sequence[Compared]) -> list[_Band]:
    """Rows of a family and regime by intensity, and those of each band by time. Neighbours meet at an edge, the first
    and the last end with their rows."""
    found = []
    for some, intensities in _cut(rows, lambda one: one.prediction.macs_per_dram_byte, band_edges(chip)):
        for few, times_s in _cut(some, lambda one: one.prediction.latency_s, time_edges(chip, family)):
            found.append(_Band(tuple(few), intensities, times_s))
    return found


def _cut(
    rows: Sequence[Compared], value: Callable[[Compared], float], edges: Sequence[float]
) -> list[tuple[list[Compared], tuple[float, float]]]:
    """Rows between edges, with what they stand between; bands of few rows go with the one before, the first with the
    one behind."""
    parts: list[list[Compared]] = [[] for _ in range(len(edges) + 1)]
    for one in rows:
        parts[bisect_right(edges, value(one))].append(one)
    joined: list[tuple[list[Compared], int]] = []
    for at, part in enumerate(parts):
        if joined and (len(part) < FEWEST_IN_BAND or len(joined[-1][0]) < FEWEST_IN_BAND):
            joined[-1] = (joined[-1][0] + part, at)
        elif part:
            joined.append((part, at))
    least = min(value(one) for one in rows)
    found = []
    for number, (part, last) in enumerate(joined):
        most = edges[last] if number < len(joined) - 1 else max(value(one) for one in rows)
        found.append((part, (least, most)))
        least = most
    return found


def _tells(one: Compared) -> bool:
    """Does a row tell of the chip? Not one that was refused, nor one that is the host's for the most part."""
    return not one.prediction.refused and one.host_s <= one.prediction.latency_s


def _ratio(one: Compared) -> float:
    """Measured to predicted time on the device: what the host adds is taken off where its clock was read."""
    return (one.row.measured_s - one.host_s) / one.prediction.latency_s


def _short(value: float, *, up: bool) -> float:
    """Four digits, away from what lies inside: the first and the last row stay in."""
    near = float(f"{value:.4g}")
    if near in (0.0, value) or (near > value) == up:
        return near
    unit = float(f"1e{math.floor(math.log10(abs(value))) - 3}")
    return float(f"{near + (unit if up else -unit):.4g}")
