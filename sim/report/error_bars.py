"""How far off the time of an operator may be: what validation against measured chips found for operators like it.

hw_configs/error_bars/CHIP.csv holds one row per family of operators and regime: between which ratios of measured to
predicted time most measurements lay, over which times, intensities and utilisations, and in which element types.
`lepton validate CHIP --out DIR` writes it. A chip without measurements is told by its nearest relative: a measured chip
that works in the same way. So is a measured chip whose parameters were changed, or that computes in another type.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any, Literal

from sim.config import data_dir
from sim.errors import InputError
from sim.hw.chip import Chip, list_chips, load_chip
from sim.report.roofline import peak_macs_per_s

REGIMES = ("launch", "compute", "memory", "busy")

FAMILY_OF_KIND: Mapping[str, str] = {
    "matmul": "matmul",
    "softmax": "softmax",
    "layer_norm": "norm",
    "rms_norm": "norm",
    **dict.fromkeys(("add", "sub", "mul", "div", "max", "min"), "binary"),
    **dict.fromkeys(
        ("relu", "gelu", "gelu_tanh", "tanh", "sigmoid", "elu", "leaky_relu", "prelu"), "unary"
    ),
    "silu": "gated",
}
"""Families of measured operators by the kind that a report's operator table names. A product with silu of another
tensor is one operator there, a silu, and one kernel on a GPU; other chips compute it element by element."""

Verdict = Literal["validated", "relative", "outside"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Of `rows` measurements on `chip`: nine in ten lay between `low` and `high` times the prediction. The predictions
    took between `shortest_s` and `longest_s`, with `least` to `most_macs_per_byte` of DRAM traffic, and used `least` to
    `most_utilization` of the arrays' peak (0: no products). `dtypes` are the element types, apart by blanks."""

    chip: str
    workings: str
    family: str
    regime: str
    rows: int
    low: float
    high: float
    shortest_s: float
    longest_s: float
    least_macs_per_byte: float
    most_macs_per_byte: float
    least_utilization: float
    most_utilization: float
    dtypes: str


@dataclass(frozen=True, slots=True)
class ErrorBar:
    """`low` and `high` times the predicted time enclose what was measured for operators like it, on `chip` in `dtypes`;
    both 1 and `why` a reason where nothing like it was measured. "validated": on this very chip and in its type."""

    verdict: Verdict
    chip: str
    low: float
    high: float
    why: str
    dtypes: str = ""


def regime(bound_by: str, launch_s: float, latency_s: float) -> str:
    """ "launch" where its launch is at least half of its time, else "compute" (array, vector unit) or "memory" (a
    link), whichever its bound is set by."""
    if launch_s > 0 and launch_s >= 0.5 * latency_s:
        return "launch"
    return "compute" if bound_by in ("array", "vector") else "memory"


def bar_regime(chip: Chip, family: str, found: str) -> str:
    """The regime that an interval is told for: "busy" for all operators where tiles are dealt. Bands of intensity part
    the products that memory limits from what the array does, and bands of time what is launch for the most part, both
    more finely."""
    return "busy" if workings(chip) == "gpu" else found


def workings(chip: Chip) -> str:
    """How a chip works, as far as relatives share it: gpu (tiles dealt in waves) or systolic."""
    return "gpu" if any(kind.dispatch is not None for kind in chip.cores) else "systolic"


@cache
def intervals() -> tuple[Interval, ...]:
    """All of hw_configs/error_bars."""
    try:
        files = sorted(data_dir("hw_configs/error_bars").glob("*.csv"))
    except InputError:
        return ()
    found = []
    for file in files:
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                cells: dict[str, Any] = {
                    item.name: row[item.name] if item.type == "str" else float(row[item.name])
                    for item in fields(Interval)
                }
                found.append(Interval(**{**cells, "rows": int(cells["rows"])}))
    return tuple(found)


def error_bar(chip: Chip, row: Mapping[str, Any], known: Sequence[Interval] | None = None) -> ErrorBar:
    """The error bar of one operator, a row of the report's operator table: by this chip's measurements, else by those
    of its nearest relative, the one with most rows of that family."""
    works = workings(chip)
    family = FAMILY_OF_KIND.get(str(row["kind"]))
    family = "unary" if family == "gated" and works != "gpu" else family
    select = partial(_select, known) if known is not None else _select_known
    own, nearest = select(chip.name, works, family)
    if nearest is None:
        where = "on this chip" if own else "on such a chip"
        return _outside(f"no {row['kind']} was measured {where}")
    assert family is not None
    time_s = float(row["time_s"]) / int(row["repeats"])
    mine = bar_regime(chip, family, regime(str(row["bound_by"]), float(row["launch_s"]) / int(row["repeats"]), time_s))
    chosen = [one for one in nearest if one.regime == mine]
    if not chosen:
        return _outside(f"no {row['kind']} limited by {mine} was measured")
    intensity = row["macs_per_dram_byte"]
    near = [
        one
        for one in chosen
        if intensity is None or one.least_macs_per_byte <= intensity <= one.most_macs_per_byte
    ]
    if not near:
        least, most = (min(o.least_macs_per_byte for o in chosen), max(o.most_macs_per_byte for o in chosen))
        return _outside(f"measured at {least:.3g} to {most:.3g} MACs per DRAM byte only")
    one = next((one for one in near if one.shortest_s <= time_s <= one.longest_s), None)
    if one is None:
        shortest_s, longest_s = min(o.shortest_s for o in near), max(o.longest_s for o in near)
        return _outside(f"measured from {shortest_s * 1e6:.3g} to {longest_s * 1e6:.3g} us only")
    used = utilization(chip, str(row["dtype"]), float(row["macs"]), float(row["time_s"]))
    if used is not None and not one.least_utilization <= used <= one.most_utilization:
        return _outside(
            f"measured at {one.least_utilization:.2%} to {one.most_utilization:.2%} of the arrays' peak only"
        )
    same = own and str(row["dtype"]) in one.dtypes.split() and _as_shipped(chip)
    return ErrorBar("validated" if same else "relative", one.chip, one.low, one.high, "", one.dtypes)


def utilization(chip: Chip, dtype: str, macs: float, time_s: float) -> float | None:
    """Part of the peak of all arrays that so many multiply-accumulates in so long are; None where there are none, or no
    array computes in the type."""
    peak = peak_macs_per_s(chip, dtype)
    return macs / (peak * time_s) if macs and peak and time_s > 0 else None


@cache
def _shipped(name: str) -> Chip | None:
    return load_chip(name) if name in list_chips() else None


def _as_shipped(chip: Chip) -> bool:
    """Is it the chip that was measured, and none of its name with other parameters?"""
    return chip == _shipped(chip.name)


@cache
def _select_known(name: str, works: str, family: str | None) -> tuple[bool, Sequence[Interval] | None]:
    return _select(intervals(), name, works, family)


def _select(
    known: Sequence[Interval], name: str, works: str, family: str | None
) -> tuple[bool, Sequence[Interval] | None]:
    """Was anything measured on the chip itself, of a family that was measured on such chips at all? The intervals of
    the family on the chip, or on its nearest relative; None where there are none."""
    alike = [one for one in known if one.workings == works]
    if family is None or not any(one.family == family for one in alike):
        return False, None
    own = [one for one in alike if one.chip == name]
    candidates = [one for one in own or alike if one.family == family]
    if not candidates:
        return True, None
    nearest = max(candidates, key=lambda one: one.rows).chip
    return bool(own), [one for one in candidates if one.chip == nearest]


def band_edges(chip: Chip) -> tuple[float, ...]:
    """MACs per DRAM byte between which a family and regime has intervals of its own. Products of up to 64 rows on a GPU
    are the DRAM's, those of many are many waves; in between are few tiles, of which the library chooses."""
    return (40.0, 64.0, 160.0, 400.0) if workings(chip) == "gpu" else ()


def time_edges(chip: Chip, family: str) -> tuple[float, ...]:
    """Seconds between which a family, regime and band of intensities has intervals of its own. Kernels of a GPU that
    take a few microseconds are its start for the most part, and were measured to one; long ones are many waves."""
    if workings(chip) != "gpu":
        return ()
    return (100e-6, 300e-6) if family == "matmul" else (5e-6, 20e-6, 100e-6)


def error_bar_columns(chip: Chip, table: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Columns of the operator table: `validity` (validated, relative, outside), `validated_on` (the measured chip) and
    `validated_in` (the measured types), `time_low_s` and `time_high_s`, all None outside, and `validity_note`, None
    inside."""
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    bars = [error_bar(chip, row) for row in rows]
    inside = [bar.verdict != "outside" for bar in bars]
    times = [float(row["time_s"]) for row in rows]
    return {
        "validity": [bar.verdict for bar in bars],
        "validated_on": [bar.chip or None for bar in bars],
        "validated_in": [bar.dtypes or None for bar in bars],
        "time_low_s": [t * b.low if i else None for t, b, i in zip(times, bars, inside, strict=True)],
        "time_high_s": [t * b.high if i else None for t, b, i in zip(times, bars, inside, strict=True)],
        "validity_note": [bar.why or None for bar in bars],
    }


def error_bar_of_all(table: Mapping[str, Sequence[Any]]) -> dict[str, float | None]:
    """Of a whole run: `validated_share`, the part of its time in operators with an error bar, and `time_error_low` and
    `time_error_high`, between which factors of the predicted time that part lies (None without such operators). All
    operators may be off in the same direction: nothing cancels."""
    total = sum(table["time_s"])
    inside = [i for i, low in enumerate(table["time_low_s"]) if low is not None]
    time_s = sum(table["time_s"][i] for i in inside)
    low, high = (sum(table[name][i] for i in inside) for name in ("time_low_s", "time_high_s"))
    return {
        "validated_share": time_s / total if total else 0.0,
        "time_error_low": low / time_s if time_s else None,
        "time_error_high": high / time_s if time_s else None,
    }


def dram_error(chip: Chip) -> dict[str, float | None]:
    """`dram_error_low` and `dram_error_high`: factors of the modelled bandwidth that every reference run of the
    device lay between (docs/validation.md); None for a device without any."""
    found = chip.dram.bandwidth_error
    return {
        "dram_error_low": 1.0 + found[0] if found else None,
        "dram_error_high": 1.0 + found[-1] if found else None,
    }


def _outside(why: str) -> ErrorBar:
    return ErrorBar("outside", "", 1.0, 1.0, why)
