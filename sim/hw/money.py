"""Money: what a good chip costs to make, and what a million inferences or tokens cost.

A die costs its share of a wafer over the yield; memory, package, test and loss at assembly come on top. Prices of
wafers and densities of defects belong to the process node, prices of memory to the DRAM device, everything else to a
file of hw_configs/prices/. No margin, no design cost and no mask set: compare designs, do not quote a price.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt

from sim.config import Field, Part, Unit, changed_ns, data_dir, data_file, load_yaml, validate
from sim.hw.area import chip_area, core_area, switch_transistors
from sim.hw.chip import Chip
from sim.hw.technology import Cost, Money, Technology

PRICE_FOLDER = "hw_configs/prices"

WAFER_MM = 300
RETICLE_MM2 = 858
"""Exposure field of lithography today, 26 x 33 mm."""

COST_COMPONENTS = ("die", "dram", "package", "test", "assembly_loss")
"""What the cost of a chip consists of."""

Floats = npt.NDArray[np.float64]
Values = float | Floats
"""Of one chip, or of a column of them."""

_SECONDS_PER_YEAR = 365.25 * 24 * 3600
_QUADRATURE_POINTS = 64


@dataclass(frozen=True, slots=True)
class Length(Cost):
    """mm."""

    value: Annotated[float, Unit("length"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Footprint(Cost):
    """mm2."""

    value: Annotated[float, Unit("area"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class MoneyPerArea(Cost):
    """USD per mm2."""

    value: Annotated[float, Unit("money_per_area"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class MoneyPerEnergy(Cost):
    """USD per J."""

    value: Annotated[float, Unit("money_per_energy"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Share(Cost):
    """Between 0 and 1."""

    value: Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True)
class Prices(Part):
    """Prices that belong to no process node and no DRAM device."""

    name: Annotated[str, Field(min_length=1, description="name of the price list")]
    scribe: Annotated[Length, Field(description="street between dies")]
    yield_clustering: Annotated[Cost, Field(description="alpha of the negative binomial yield")]
    package: Annotated[Money, Field(description="package and assembly of a small chip")]
    substrate: Annotated[MoneyPerArea, Field(description="more substrate, by die area")]
    interposer: Annotated[MoneyPerArea, Field(description="under die and stacks, where there are stacks")]
    stack_area: Annotated[Footprint, Field(description="of one DRAM stack on the interposer")]
    assembly_yield: Annotated[Share, Field(description="packages that work, of good parts")]
    test: Annotated[Money, Field(description="test of one chip")]
    system_over_chip: Annotated[Cost, Field(description="whole system over its chips")]
    lifetime_years: Annotated[Cost, Field(description="years over which capital is spread")]
    busy_share: Annotated[Share, Field(description="share of its life that a chip works")]
    electricity: Annotated[MoneyPerEnergy, Field(description="electricity")]
    power_usage_effectiveness: Annotated[
        Cost, Field(description="power of the site over that of its machines")
    ]


@dataclass(frozen=True, slots=True)
class Cores:
    """Equal cores of a die: area of one, how many must work, how many more there are."""

    area_mm2: Values
    count: int
    spare: int


def load_prices(name: str) -> Prices:
    """A price list by name, or by the path of a file. Raises InputError on an unknown name or an incomplete file."""
    return _load(name, changed_ns(name))


@lru_cache(maxsize=16)
def _load(name: str, changed_ns: int) -> Prices:
    path = data_file(PRICE_FOLDER, name, what="price list")
    return validate(load_yaml(path, search=data_dir(PRICE_FOLDER)), Prices)


def dies_per_wafer(die_mm2: Values, scribe_mm: float = 0.0) -> Values:
    """Whole dies on a wafer of 300 mm, square, with a street around each; 0 where not even one fits.

    pi (d / 2)^2 / A - pi d / sqrt(2 A), as in Hennessy and Patterson, Computer Architecture, 1.6: the area, less what
    the edge cuts. A die of 225 mm2: 270; of 100 mm2: 640.
    """
    side = np.sqrt(die_mm2) + scribe_mm
    area = side * side
    dies = math.pi * (WAFER_MM / 2) ** 2 / area - math.pi * WAFER_MM / np.sqrt(2 * area)
    return np.where(side > WAFER_MM / math.sqrt(2), 0.0, np.maximum(1.0, dies))[()]


def negative_binomial_yield(area_mm2: float, defects_per_cm2: float, clustering: float) -> float:
    """Share of dies without a defect: (1 + A D / alpha)^-alpha (Stapper 1983).

    225 mm2 at 0.4 per cm2 and alpha 4: 0.44 (Hennessy and Patterson, 4th edition, 1.6).
    """
    return float((1.0 + area_mm2 / 100.0 * defects_per_cm2 / clustering) ** -clustering)


def die_yield(rest_mm2: Values, cores: Sequence[Cores], defects_per_cm2: float, clustering: float) -> Values:
    """Share of dies whose rest works and that have enough working cores of every kind.

    The negative binomial is a mixture of Poisson yields over densities that follow a gamma distribution (mean D,
    shape alpha): at one density cores fail independently, so the mixture is integrated over the binomial of each kind
    (Gauss-Laguerre). Without spares it equals `negative_binomial_yield` of the whole die.
    """
    points, weights = _quadrature()
    weights = weights * points ** (clustering - 1.0) / math.gamma(clustering)
    defects_per_mm2 = points * defects_per_cm2 / 100.0 / clustering
    works = np.exp(np.multiply.outer(rest_mm2, -defects_per_mm2))
    for kind in cores:
        good = np.exp(np.multiply.outer(kind.area_mm2, -defects_per_mm2))
        total = kind.count + kind.spare
        works = works * sum(
            math.comb(total, dead) * (1.0 - good) ** dead * good ** (total - dead)
            for dead in range(kind.spare + 1)
        )
    return (works @ weights)[()]


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Floats, Floats]:
    """Points and weights of Gauss-Laguerre quadrature: a sweep prices thousands of chips."""
    points, weights = np.polynomial.laguerre.laggauss(_QUADRATURE_POINTS)
    return points, weights


def chip_yield(chip: Chip, technology: Technology, prices: Prices) -> Values:
    """Share of the chip's dies that can be sold; spare cores may be dead."""
    switch_mm2 = technology.logic_area_mm2(switch_transistors(chip))
    cores = [
        Cores(sum(core_area(kind, technology).values()) + switch_mm2, kind.count, kind.spare)
        for kind in chip.cores
    ]
    die_mm2 = sum(chip_area(chip, technology).values())
    rest_mm2 = np.maximum(0.0, die_mm2 - sum(core.area_mm2 * (core.count + core.spare) for core in cores))
    return die_yield(rest_mm2, cores, technology.defects_per_cm2.value, prices.yield_clustering.value)


def chip_cost(chip: Chip, technology: Technology, prices: Prices) -> dict[str, float] | None:
    """USD by component (COST_COMPONENTS) of one good chip with its DRAM; None where the die is larger than a wafer."""
    found = cost_parts(chip, technology, prices)
    return None if np.isnan(found["die"]) else {name: float(value) for name, value in found.items()}


def cost_parts(chip: Chip, technology: Technology, prices: Prices) -> dict[str, Values]:
    """The same of a chip whose parameters may be columns; no numbers where the die is larger than a wafer."""
    die_mm2 = sum(chip_area(chip, technology).values())
    dies = dies_per_wafer(die_mm2, prices.scribe.value)
    good = np.where(dies > 0.0, dies * chip_yield(chip, technology, prices), np.nan)[()]
    die = technology.wafer_price.value / good
    dram = chip.dram.capacity_bytes / 2**30 * chip.dram.price_usd_per_gib
    package = prices.package.value + prices.substrate.value * die_mm2
    if chip.dram.channels_per_stack:
        stacks = math.ceil(chip.dram.channels / chip.dram.channels_per_stack)
        package += prices.interposer.value * (die_mm2 + stacks * prices.stack_area.value)
    # Modules on a board are not lost with a package.
    lost = (die + package + (dram if chip.dram.channels_per_stack else 0.0)) * (
        1.0 / prices.assembly_yield.value - 1.0
    )
    found = (die, dram, package, prices.test.value, lost)
    return dict(zip(COST_COMPONENTS, found, strict=True))


def cost_per_million(cost_usd: Values, power_w: Values, throughput_per_s: Values, prices: Prices) -> Values:
    """USD per million items (inferences, tokens): capital spread over the busy part of a life, and electricity.

    (cost x system / (life x busy share) + power x effectiveness x price) / throughput x 1e6.
    1000 USD, 200 W and 1000 items/s with the default prices: 26.4 + 4.9 = 31.3 uUSD a second, 0.0313 USD per million.
    """
    working_s = prices.lifetime_years.value * _SECONDS_PER_YEAR * prices.busy_share.value
    capital = cost_usd * prices.system_over_chip.value / working_s
    energy = power_w * prices.power_usage_effectiveness.value * prices.electricity.value
    return (capital + energy) / throughput_per_s * 1e6
