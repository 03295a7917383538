"""The tile search by compiled code (sim/cost/cut_search.py): its winner, and what none is below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import Site
from sim.cost.hardware import lacking_law
from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.mapping.candidates import MOST_CUTS, SLACK
from sim.mapping.memo import Recent, by_identity
from sim.mapping.splits import Local, Splits

if TYPE_CHECKING:
    from sim.cost.cut_table import Shares


Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LEVEL_BYTES = 64 << 20
"""Memory that remembered levels may take."""

_SINGLE: Recent[object, tuple[Shares, tuple[Float64, Int64]]] = Recent(LEVEL_BYTES, lambda one: one[1][0].nbytes)


class Winner(NamedTuple):
    """The best tiling of a search: parts over cores and tiles per core of every dimension; its estimate, and the
    seconds where its result stays in the scratchpads, if the search told; which operands stay (none: empty)."""

    splits: tuple[int, ...]
    steps: tuple[int, ...]
    columns_first: bool
    latency_s: float
    dram_bytes: float
    sram_bytes: int
    accumulator_bytes: int
    kept_s: float | None
    staying: tuple[bool, ...] = ()


def best_cut(
    nest: Nest, site: Site, local: Local, quanta: tuple[int, ...], unit: str, dataflow: str, limit: int, coarse: bool
) -> Winner | None:
    """The best tiling of a nest under the partitions over cores of `local`; None where none fits `limit` bytes of
    scratchpad. The candidates and the choice among them are those of candidates.py and search.py; for cores of which
    the kernel has the law (`hardware.lacking_law`)."""
    from sim.cost.compiled import columns_of, tables_of, unit_columns
    from sim.cost.cut_search import search_cuts
    from sim.cost.kernel import ACCUMULATOR_NEED, COSTS, DRAM_BYTES, LATENCY_S, SRAM_NEED

    vector = unit == "vector"
    shares = local.splits.shares(vector)
    if shares is None:
        return None
    masks = local.masks[local.splits.unsummed] if vector else local.masks
    found, at = np.empty((2, COSTS)), np.empty(3 + len(quanta), np.int64)
    levels, granules = _single_levels(nest, shares, coarse), np.array(quanta, np.int64)
    if not search_cuts(
        tables_of(nest), columns_of(site, dataflow), unit_columns(nest, site, unit), vector, float(limit), SLACK,
        coarse, MOST_CUTS, shares, *levels, masks, _wires(nest, site, shares), granules, found, at,
    ):  # fmt: skip
        return None
    costs, kept = found.tolist()
    family, columns_first, staying, *steps = at.tolist()
    split = tuple(shares.splits[family].tolist())
    sram, accumulator = int(costs[SRAM_NEED]), int(costs[ACCUMULATOR_NEED])
    return Winner(
        split, tuple(steps), columns_first > 0, costs[LATENCY_S], costs[DRAM_BYTES], sram, accumulator, kept[LATENCY_S],
        tuple(bool(staying >> operand & 1) for operand in range(len(nest.operands))) if staying else (),
    )  # fmt: skip


def _wires(nest: Nest, site: Site, shares: Shares) -> Float64:
    """[partitions, 2, operands, 2]: what they make of the busiest port and link of a site (`Wiring.counts`)."""
    from sim.cost.compiled import tables_of

    t = tables_of(nest)
    if site.wiring is None:
        return np.zeros((len(shares.splits), 2, t.operands.shape[1], 2))
    return site.wiring.counts(t, 0, shares.splits, shares)


def vector_floor_s(nest: Nest, site: Site) -> float:
    """Time the multiply-adds of a contraction take on every lane of the site, at the very least."""
    unit = site.kind.vector
    passes = nest.macs * unit.passes_of("multiply_add")
    return passes / (unit.lanes * site.cores * site.kind.clock_hz)


def least_cut_s(
    nest: Nest, site: Site, splits: Splits, units: Sequence[str], dataflow: str, disjoint: bool
) -> float:
    """Seconds below the estimate of every tiling of a nest under some partitions, wherever its operands and its result
    lie, but for weights, which are in no scratchpad before; 0 for cores that the kernel has no law for. `disjoint` as
    `parts_are_disjoint` says of the graph."""
    from sim.cost.compiled import columns_of, tables_of, unit_columns
    from sim.cost.cut_search import least_seconds

    if nest.kind == "attention" or lacking_law(site.kind, dataflow):
        return 0.0
    found: list[float] = []
    maybe = _maybe_resident(nest)
    for unit in units:
        shares = splits.shares(unit == "vector")
        if shares is not None and not (found and unit == "vector" and vector_floor_s(nest, site) >= found[0]):
            least_s = least_seconds(
                tables_of(nest), columns_of(site, dataflow), unit_columns(nest, site, unit), unit == "vector", shares,
                *_single_levels(nest, shares, coarse=True), maybe, disjoint, site.least_head_latency_s,
            )  # fmt: skip
            found.append(least_s)
    return min(found, default=0.0)


@by_identity(1 << 14)
def _maybe_resident(nest: Nest) -> int:
    """The operands that a step before may have left in the scratchpads, as a bit mask."""
    return sum(1 << at for at, operand in enumerate(nest.operands) if operand.tensor.role != "weight")


@by_identity(1 << 6)
def parts_are_disjoint(graph: Graph) -> bool:
    """Do cores that share a result write boxes without a common element, whatever the nest? Then what several cores
    need alike is in place in one of them at most: each loop that is not summed over has an axis of the result, or a
    place of its own on one."""
    for nest in (nest for found in graph.nests for nest in found):
        seen: list[int] = []
        for axis in nest.out.axes:
            terms = [(factor, dim) for dim, factor in axis.terms if nest.dims[dim].extent > 1]
            reach = 1 + axis.high - axis.low
            for factor, dim in sorted(terms):
                if factor < reach or axis.denominator != 1:
                    return False
                reach = factor * nest.dims[dim].extent
                seen.append(dim)
        if sorted(seen) != [at for at, dim in enumerate(nest.dims) if dim.role != "k" and dim.extent > 1]:
            return False
    return True


def _single_levels(nest: Nest, shares: Shares, coarse: bool) -> tuple[Float64, Int64]:
    """The levels of shares where cuts may lie anywhere, and where those of each begin: no chip changes them."""
    from sim.cost.compiled import tables_of
    from sim.cost.cut_table import share_levels

    known = _SINGLE.get((id(shares), coarse))
    if known is None:
        anywhere, none = np.ones(len(nest.dims), np.int64), (np.empty((0, 0)), np.empty(0, np.int64))
        found = share_levels(tables_of(nest), shares, anywhere, coarse, MOST_CUTS, *none)
        # The entry keeps the shares alive, and with them their id.
        known = _SINGLE[id(shares), coarse] = shares, found
    return known[1]
