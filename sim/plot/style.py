"""What all figures share: colours that colour-blind readers can tell apart, axes in readable units, and the Axes
to draw on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from sim.cost.energy import COMPONENTS
from sim.report.words import ENERGY_WORDS
from sim.units import COLUMN_ENDS, DIMENSIONS, dimension_of_column, format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Amount = TypeVar("Amount", float, npt.NDArray[np.float64])

# Okabe and Ito, "Color Universal Design", 2008, and paler shades of it. Blue computes, orange moves data.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILION, SKY, YELLOW = "#D55E00", "#56B4E9", "#F0E442"
GREY, LIGHT_GREY, PALE_SKY, PALE_PURPLE, DARK = "#777777", "#BBBBBB", "#B5DBF3", "#E9C9DA", "#333333"

COMPONENT_GROUPS: Mapping[str, str] = {
    **{
        name: name
        for name in ("mac", "registers", "accumulator", "vector", "control", "sram", "cache", "host", "chip_links")
    },
    **dict.fromkeys(("dma", "noc"), "noc"),
    **{name: "dram" for name in COMPONENTS if name.startswith("dram_")},
    **{name: name for name in ("leakage", "clock")},
}
"""Component -> the group that it is drawn with: more than a dozen colours nobody can tell apart."""
COMPONENT_COLOURS: Mapping[str, str] = {
    "mac": BLUE,
    "registers": SKY,
    "accumulator": PALE_SKY,
    "vector": GREEN,
    "control": DARK,
    "sram": YELLOW,
    "cache": "#F5C76B",
    "dram": ORANGE,
    "noc": PURPLE,
    "host": PALE_PURPLE,
    "chip_links": VERMILION,
    "clock": LIGHT_GREY,
    "leakage": GREY,
}
"""Of the groups of components of energy and power, in every figure."""
GROUP_WORDS: Mapping[str, str] = {
    **{group: ENERGY_WORDS[group] for group in COMPONENT_COLOURS if group in ENERGY_WORDS},
    "dram": "DRAM",
    "noc": "DMA and interconnect",
}
"""A group of one component has its component's name."""
UNIT_COLOURS: Mapping[str, str] = {
    "array": BLUE,
    "vector": GREEN,
    "load": ORANGE,
    "dram": ORANGE,
    "store": VERMILION,
    "send": PURPLE,
    "noc": PURPLE,
    "dma": SKY,
    "port": YELLOW,
    "cache": "#F5C76B",
    "host": PALE_PURPLE,
    "chip_links": VERMILION,
    "dispatch": DARK,
    "sync": LIGHT_GREY,
}
"""Of queues and links."""
UNIT_WORDS: Mapping[str, str] = {
    "array": "arrays",
    "vector": "vector units",
    "load": "loads",
    "store": "stores",
    "send": "sends",
    "port": "memory ports",
    "dram": "DRAM",
    "noc": "on-chip links",
    "dma": "DMA channels",
    "cache": "cache",
    "host": "host link",
    "chip_links": "links to other chips",
    "dispatch": "kernel launches",
    "sync": "barriers",
}
SERIES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, DARK, YELLOW)
"""Of runs side by side, in order."""

_RATES = {"_macs_per_s": "MAC/s", "_per_s": "1/s", "tops_per_w": "TOP/s/W"}
_SI = ("", "k", "M", "G", "T", "P")
_ACRONYMS = {"dram": "DRAM", "sram": "SRAM", "noc": "network"}
_WORDS = {
    "energy_per_input": "energy per input",
    "array_utilization": "array utilisation",
    "cache_hit_rate": "cache hit rate",
    "tops_per_w": "efficiency",
}


def axes_or_new(ax: Axes | None, width_inches: float, height_inches: float) -> Axes:
    """`ax`, or the only Axes of a new figure. The figure is pyplot's, so that a notebook shows it."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width_inches, height_inches), layout="constrained")[1]


def by_group(components: Mapping[str, Amount]) -> dict[str, Amount]:
    """Amounts of components added up by group, in the order of COMPONENT_COLOURS; groups without any are left out."""
    found: dict[str, Amount] = {}
    for group in COMPONENT_COLOURS:
        mine = [amount for name, amount in components.items() if COMPONENT_GROUPS[name] == group]
        if mine:
            found[group] = sum(mine[1:], mine[0])
    return found


def readable_unit(largest: float, dimension: str) -> tuple[float, str]:
    """(factor, unit) that bring values up to `largest`, in the base unit of `dimension`, to at most 4 digits.

    0.0021 s: (1000.0, "ms").
    """
    known = DIMENSIONS[dimension]
    fitting = [unit for unit in known.shown if known.scales[unit] <= abs(largest) * (1 + 1e-9)]
    unit = fitting[-1] if fitting else known.shown[0] if largest else known.base
    return float(1 / known.scales[unit]), unit


def words_of(metric: str) -> str:
    """A metric's name without its unit: "energy_per_input_j" is "energy per input"."""
    dimension = dimension_of_column(metric)
    stem = metric.removesuffix("_per_s") if dimension is None else metric.removesuffix(COLUMN_ENDS[dimension])
    if "." in stem:
        return stem
    return _WORDS.get(stem, " ".join(_ACRONYMS.get(word, word) for word in stem.split("_")))


def label_of(metric: str, largest: float) -> tuple[float, str]:
    """(factor, axis label with the unit) for values of a metric up to `largest`.

    ("latency_s", 0.0021): (1000.0, "latency (ms)").
    """
    dimension = dimension_of_column(metric)
    if dimension is not None:
        factor, unit = readable_unit(largest, dimension)
        return factor, f"{words_of(metric)} ({unit.replace('mm2', 'mm²')})"
    for suffix, unit in _RATES.items():
        if metric.endswith(suffix):
            words = words_of(metric.removesuffix(suffix)) or "efficiency"
            return 1.0, f"{words} ({unit})"
    if metric.endswith(("utilization", "hit_rate", "share")):
        return 100.0, f"{words_of(metric)} (%)"
    return 1.0, words_of(metric)


def value_text(name: str, value: object) -> str:
    """A value of a column to be read: with the unit that the column's name says, words as they are."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    dimension = dimension_of_column(name)
    return f"{value:,.4g}" if dimension is None else format_quantity(float(value), dimension)


def rate_text(per_s: float, unit: str) -> str:
    """A rate with a decimal prefix: (1.57e14, "MAC/s") is "157 TMAC/s"."""
    power = sum(per_s >= 1000**step for step in range(1, len(_SI)))
    return f"{per_s / 1000**power:.3g} {_SI[power]}{unit}"


def parameter_name(column: str) -> str:
    """A parameter by the name of its column, where its unit stands beside each value: "core.sram.size"."""
    return column if dimension_of_column(column) is None else label_of(column, 1.0)[1].rpartition(" (")[0]


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour: relative luminance, WCAG 2.1."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The contrast with white is 1.05 / (luminance + 0.05), with black (luminance + 0.05) / 0.05.
    return "white" if (luminance + 0.05) ** 2 < 1.05 * 0.05 else "black"


def shortened(text: str, characters: int) -> str:
    """A long name with its middle left out."""
    if len(text) <= characters:
        return text
    head = (characters - 1) // 2
    return f"{text[:head]}…{text[len(text) - (characters - 1 - head) :]}"
