"""The compiled closed form for one nest on one site: `sim.cost.estimate.estimate` by the kernel of the bound.

Same arguments, same numbers, one compiled call for all candidates. Cores that the kernel has no law for
(`hardware.lacking_law`) keep to the NumPy estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim.cost import kernel
from sim.cost.element_passes import body_passes, drain_passes
from sim.cost.estimate import Bool, Cuts, Estimate, Float64, Site, site_wires
from sim.cost.hardware import site_columns
from sim.cost.nest_tables import NestTables, nest_tables
from sim.cost.tiling import tiling_costs
from sim.cost.work import unpack_cost, vector_cost
from sim.graph.nest import Nest
from sim.hw.core import CoreKind

_TABLES: dict[int, tuple[Nest, NestTables]] = {}
_MOST_TABLES = 1024


def compiled_estimate(
    nest: Nest, site: Site, cuts: Cuts, *, unit: str, dataflow: str, resident: Bool, stored: bool = True,
    staying: Sequence[bool] = (),
) -> Estimate:  # fmt: skip
    """Evaluate all candidates: see `sim.cost.estimate.estimate`, whose arguments these are and whose numbers it gives
    (latencies to rounding, counts exactly).

    Raises InputError for a core that the kernel has no law for.
    """
    count = len(cuts.splits)
    stays = sum(1 << at for at, one in enumerate(staying) if one)
    masks = resident @ (1 << np.arange(resident.shape[1], dtype=np.int64))
    tile = np.stack([np.broadcast_to(size, count) for size in cuts.tile], axis=1)
    found, of_operand = np.empty((count, kernel.COSTS)), np.empty((resident.shape[1] + 1, 3))
    tiling_costs(
        tables_of(nest), columns_of(site, dataflow), unit_columns(nest, site, unit), cuts.splits, cuts.steps, tile,
        cuts.columns_first, unit == "vector", masks, stays, stored,
        site_wires(nest, site, cuts.splits, resident), of_operand, found,
    )  # fmt: skip
    return Estimate(
        found[:, kernel.LATENCY_S],
        found[:, kernel.DRAM_BYTES],
        found[:, kernel.TRANSFERS].astype(np.int64),
        found[:, kernel.SRAM_NEED].astype(np.int64),
        found[:, kernel.ACCUMULATOR_NEED].astype(np.int64),
    )


def unit_costs(nest: Nest, kind: CoreKind, unit: str) -> tuple[float, float, float, float, float]:
    """The array's rate at the operands' format as a fraction (1, 1 on the vector unit), and cycles per element and lane
    of the whole nest on the vector unit, of what is applied on the way out of an array, and of unpacking weights."""
    over, under = 1.0, 1.0
    if unit == "array" and kind.array is not None:
        rate = kind.array.rate(nest.operands[0].tensor.dtype)
        over, under = float(rate.numerator), float(rate.denominator)
    body, drain = (vector_cost(passes(nest, kind), kind) for passes in (body_passes, drain_passes))
    return over, under, body, drain, unpack_cost(nest, kind)


_Costs = dict[tuple[int, str], tuple[Nest, Float64]]


class _Seen(NamedTuple):
    """A site, kept alive for its id, with what compiled code reads of it: by dataflow, and by nest and unit."""

    site: Site
    columns: dict[str, Float64]
    costs: _Costs


_SITES: dict[int, _Seen] = {}
_MOST_SITES = 64

_COSTS: dict[object, _Costs] = {}
"""By what `unit_costs` reads of a kind of cores: most designs of a sweep have the same."""


def _seen(site: Site) -> _Seen:
    known = _SITES.get(id(site))
    if known is None:
        if len(_SITES) >= _MOST_SITES:
            _SITES.clear()
            _COSTS.clear()
        array = site.kind.array
        of_array = () if array is None else (*sorted(array.rates.items()), *array.unpacks)
        known = _SITES[id(site)] = _Seen(site, {}, _COSTS.setdefault((site.kind.vector, of_array), {}))
    return known


def columns_of(site: Site, dataflow: str) -> Float64:
    """The site as the kernel reads it, made once."""
    columns = _seen(site).columns
    if dataflow not in columns:
        columns[dataflow] = site_columns(site, dataflow)
    return columns[dataflow]


def unit_columns(nest: Nest, site: Site, unit: str) -> Float64:
    """`unit_costs` as the kernel reads them, made once."""
    costs = _seen(site).costs
    known = costs.get((id(nest), unit))
    if known is None:
        if len(costs) >= _MOST_TABLES:
            costs.clear()
        # The entry keeps the nest alive, and with it its id.
        known = costs[id(nest), unit] = nest, np.array(unit_costs(nest, site.kind, unit))
    return known[1]


def tables_of(nest: Nest) -> NestTables:
    """The nest as the kernel reads it, made once."""
    known = _TABLES.get(id(nest))
    if known is None:
        if len(_TABLES) >= _MOST_TABLES:
            _TABLES.clear()
        # The entry keeps the nest alive, and with it its id.
        known = _TABLES[id(nest)] = (nest, nest_tables([nest]))
    return known[1]
