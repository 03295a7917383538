"""Tile search: the fastest of every sensible way to cut one loop nest over cores and into tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import BUFFER_SLOTS, Cuts, Estimate, Site, estimate
from sim.cost.fills import loop_order
from sim.cost.hardware import lacking_law
from sim.errors import DoesNotFit
from sim.graph.nest import Nest
from sim.hw.row_stationary import RowMapping
from sim.mapping.candidates import ROLES, SLACK, Candidates, candidates
from sim.mapping.cut_levels import Winner, best_cut, vector_floor_s
from sim.mapping.grid import bounds, largest_size
from sim.mapping.memo import by_identity
from sim.mapping.splits import Local
from sim.mapping.stay_best import stay_estimates

Int64 = npt.NDArray[np.int64]

ALL_ROLES = frozenset(ROLES)
MAX_SPLITS = 28
"""Partitions over cores tried per nest, those that use most cores first."""

MAX_REDUCTION_CORES = 8
"""Cores that share one sum: beyond, moving the parts costs more than it saves."""

FIRST_BATCH = 2048
"""Candidates evaluated at first; each further batch is twice as large."""


@dataclass(frozen=True, slots=True)
class VectorKernel:
    """What dealt vector work costs beside its passes (see deal_vector.py): instructions per element of the result; how
    long the threads of a tile wait for their loads before they issue any (`waiting_ps`, less the part of its transfers
    that goes on beside: it may be negative); the least time of a tile, in which each thread waits for its loads and for
    itself. The scratchpad holds what the threads take at a time, `staged` elements of an operand (0: whole tiles)."""

    instructions: float
    waiting_ps: int = 0
    floor_ps: int = 0
    staged: int = 0


@dataclass(frozen=True, slots=True)
class Deal:
    """Tiles `first` to `first + cores x waves` of the result, one to each of `cores` cores in every wave.

    `rows` and `columns` are the tile of the menu: what a tile at the border costs, too. Operands have `stages` slots,
    results one: a kernel passes them through the scratchpad before it ends; a tile that a core works on alone has
    `lone_stages`. The tiles are numbered in bands of `group`
    along the outer loops, so that the tiles of a wave lie in a block and share what they load through the cache. Of
    vector work (deal_vector.py), `rows` are those that a core walks at once. Arrays take `slowed` times their cycles:
    what all of them together may draw lowers their clock. With `adds`, a kernel of its own adds up the parts of their
    sums, launched when all are there.
    """

    first: int
    cores: int
    waves: int
    rows: int
    columns: int
    stages: int
    group: int
    lone_stages: int
    vector: VectorKernel | None = None
    slowed: float = 1.0
    adds: bool = False


@dataclass(frozen=True, slots=True)
class RowTiling:
    """What a row-stationary array does with a tile (see row_tiles.py). Filters pass through the scratchpad in pieces
    of `staging_bytes`: the PEs hold them."""

    mapping: RowMapping
    staging_bytes: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How one nest is cut. `splits` and `steps` are parts over cores and tiles per core of every dimension;
    `quanta` the granule of the cuts; `order` the loops from outermost to innermost. Where tiles are dealt (see
    deal.py), `steps` counts the tiles of the whole result in every dimension that is not summed over. `staying` says
    which operands stay until the loops come back to them (see sim/cost/scan.py and staying.py); none, if empty."""

    splits: tuple[int, ...]
    steps: tuple[int, ...]
    quanta: tuple[int, ...]
    order: tuple[int, ...]
    unit: str
    dataflow: str
    latency_s: float
    dram_bytes: float
    sram_bytes: int
    accumulator_bytes: int
    deal: Deal | None = None
    rows: RowTiling | None = None
    slots: int = BUFFER_SLOTS  # of a buffer that is filled more than once
    kept_s: float | None = None  # `latency_s` of a result that stays in the scratchpads, if the search told
    staying: tuple[bool, ...] = ()

    @property
    def cores(self) -> int:
        """Cores that have work."""
        return math.prod(self.splits) * (self.deal.cores if self.deal is not None else 1)

    def stays(self, index: int) -> bool:
        """Is operand number `index` loaded once?"""
        return any(self.staying[index : index + 1])

    def tile(self, nest: Nest) -> tuple[int, ...]:
        """The largest tile, by dimension."""
        sizes = zip(nest.extents, self.splits, self.steps, self.quanta, strict=True)
        return tuple(largest_size(extent, parts * steps, quantum) for extent, parts, steps, quantum in sizes)

    def cuts(self, nest: Nest) -> tuple[Int64, ...]:
        """Cut points of every dimension over all cores."""
        return tuple(
            bounds(dim.extent, parts * steps, quantum)
            for dim, parts, steps, quantum in zip(
                nest.dims, self.splits, self.steps, self.quanta, strict=True
            )
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What the search may use: scratchpad bytes preferred (leaves room to prefetch the next operator) and at most;
    units to try."""

    preferred_sram_bytes: int
    sram_bytes: int
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """The winner (its cuts and estimate among others, its operand that stays or -1, and its place there), and the least
    (scratchpad, accumulator) bytes that any candidate needs; of all of them, where none fits."""

    winner: tuple[Cuts, Estimate, int, int] | None
    need: tuple[int, int]


def search(
    nest: Nest,
    site: Site,
    limits: Limits,
    dataflow: str,
    local: Local,
) -> Tiling:
    """The tiling with the least estimated latency among the partitions over cores of `local`, which says which operands
    every core finds in its own scratchpad under each.

    Raises DoesNotFit when no tile fits, with the smallest need found.
    """
    best: Tiling | None = None
    # Vector units do not share sums.
    units = tuple(unit for unit in limits.units if unit != "vector" or local.splits.vector is not None)
    walk = _interpreted if nest.kind == "attention" or lacking_law(site.kind, dataflow) else best_cut
    for limit in sorted({limits.preferred_sram_bytes, limits.sram_bytes}):
        for coarse in (True, False):
            for unit in units:
                if best is not None and unit == "vector" and vector_floor_s(nest, site) >= best.latency_s:
                    continue
                quanta = cut_quanta(nest, site, unit, dataflow)
                winner = walk(nest, site, local, quanta, unit, dataflow, limit, coarse)
                if winner is not None and (best is None or winner.latency_s < best.latency_s):
                    best = _tiling(nest, winner, quanta, unit, dataflow, site.kind.sram.tile_slots)
            if best is not None:
                return best
    raise _does_not_fit(nest, site, limits, _least_need(nest, site, limits, units, dataflow, local))


def _interpreted(
    nest: Nest, site: Site, local: Local, quanta: tuple[int, ...], unit: str, dataflow: str, limit: int, coarse: bool
) -> Winner | None:
    """As `best_cut`, with the NumPy estimate, which has a law for everything."""
    space = candidates(nest, site, local.mapping(len(nest.operands)), quanta, unit, coarse)
    found = _best(space, site, dataflow, unit, limit).winner
    if found is None:
        return None
    cuts, cost, stay, at = found
    return Winner(
        tuple(cuts.splits[at].tolist()),
        tuple(cuts.steps[at].tolist()),
        bool(cuts.columns_first[at]),
        float(cost.latency_s[at]),
        float(cost.dram_bytes[at]),
        int(cost.sram_bytes[at]),
        int(cost.accumulator_bytes[at]),
        None,
        tuple(index == stay for index in range(len(nest.operands))) if stay >= 0 else (),
    )


def _least_need(
    nest: Nest, site: Site, limits: Limits, units: Sequence[str], dataflow: str, local: Local
) -> tuple[int, int]:
    """The least (scratchpad, accumulator) bytes that any candidate needs, where none fits."""
    found = []
    for coarse, unit in itertools.product((True, False), units):
        resident = local.mapping(len(nest.operands))
        space = candidates(nest, site, resident, cut_quanta(nest, site, unit, dataflow), unit, coarse)
        found.append(_best(space, site, dataflow, unit, limits.sram_bytes).need)
    return min(found)


def estimate_of(nest: Nest, site: Site, tiling: Tiling, resident: tuple[bool, ...], *, stored: bool) -> Estimate:
    """The estimate of one tiling, of which the result is stored or stays in the scratchpads."""
    from sim.cost.compiled import compiled_estimate

    how: Callable[..., Estimate] = compiled_estimate
    if nest.kind == "attention" or lacking_law(site.kind, tiling.dataflow):
        how = estimate
    steps, splits = np.array([tiling.steps], np.int64), np.array([tiling.splits], np.int64)
    columns_first = np.array([tiling.order != loop_order(nest, False)])
    tile = tuple(np.array([size], np.int64) for size in tiling.tile(nest))
    return how(
        nest,
        site,
        Cuts(splits, steps, columns_first, tile),
        unit=tiling.unit,
        dataflow=tiling.dataflow,
        resident=np.array([resident], np.bool_),
        stored=stored,
        staying=tiling.staying,
    )


def split_candidates(nest: Nest, cores: int, roles: frozenset[str]) -> tuple[tuple[int, ...], ...]:
    """Partitions of the nest over so many cores, at most two dimensions split, those using most cores first."""
    limits = []
    for dim in nest.dims:
        # Blocks of keys come one after another: parts of a running result are not added up.
        summed = nest.contraction and nest.kind != "attention"
        allowed = dim.role in roles and (dim.role != "k" or summed)
        most = MAX_REDUCTION_CORES if dim.role == "k" else cores
        limits.append(min(dim.extent, cores, most) if allowed else 1)
    return _splits(tuple(limits), cores, nest.extents, nest.nested)


@lru_cache(maxsize=1 << 12)
def _splits(
    limits: tuple[int, ...], cores: int, extents: tuple[int, ...], nested: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, ...], ...]:
    """Splits with at most `limits` parts per dimension; an inner dimension of a nested pair only where the outer one
    is split down to single indices."""
    options = [sorted({p for p in (*_divisors(cores), limit) if 1 < p <= limit}) for limit in limits]
    one = (1,) * len(limits)
    found = {one}
    for index, sizes in enumerate(options):
        found |= {(*one[:index], p, *one[index + 1 :]) for p in sizes}
    for a, b in itertools.combinations(range(len(limits)), 2):
        for p, q in itertools.product(options[a], options[b]):
            if p * q <= cores:
                found.add(tuple(p if i == a else q if i == b else 1 for i in range(len(limits))))
    legal = [s for s in found if all(s[inner] == 1 or s[outer] == extents[outer] for outer, inner in nested)]
    legal.sort(key=lambda split: (-math.prod(split), -max(split), split))
    most = math.prod(legal[0])
    # Fewer cores only pay where the work is too small for all of them: keep a few to find out.
    wide = [split for split in legal if math.prod(split) * 2 > most][: MAX_SPLITS - 4]
    narrow = [split for split in legal if split not in wide][:3]
    alone = [] if one in wide or one in narrow else [one]
    return (*wide, *narrow, *alone)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def cut_quanta(nest: Nest, site: Site, unit: str, dataflow: str) -> tuple[int, ...]:
    """Cuts at multiples of the array's sides, so that no fold is split between tiles; 1 elsewhere."""
    array = site.kind.array
    if unit != "array" or array is None:
        return (1,) * len(nest.dims)
    return _sides(_single_loops(nest), dataflow, array.rows, array.cols, array.count)


@lru_cache(maxsize=1 << 12)
def _sides(loops: tuple[str, ...], dataflow: str, rows: int, cols: int, count: int) -> tuple[int, ...]:
    """The side of an array that each of these roles runs along; 1 for none."""
    along_columns = {"weight_stationary": "n", "output_stationary": "n", "input_stationary": "m"}[dataflow]
    along_rows = {"weight_stationary": "k", "output_stationary": "m", "input_stationary": "k"}[dataflow]
    side = {along_columns: cols * (count if along_columns == "n" else 1), along_rows: rows}
    return tuple(side.get(role, 1) for role in loops)


@by_identity(1 << 14)
def _single_loops(nest: Nest) -> tuple[str, ...]:
    """Of every dimension its role where it is one loop and no kernel window, else ""."""
    return tuple(
        dim.role if len(nest.role(dim.role)) == 1 and not (dim.role == "k" and nest.taps > 1) else ""
        for dim in nest.dims
    )


_Part = tuple[Int64, Cuts, Estimate, int, npt.NDArray[np.bool_]]
"""Candidates that are evaluated: which they are, their cuts, estimates, operand that stays, and whether they fit."""


def _best(space: Candidates, site: Site, dataflow: str, unit: str, limit: int) -> _Found:
    """The best candidate that fits `limit` bytes of scratchpad. Candidates are evaluated in batches, lowest floors
    first, until no floor is left below the slack around the best latency; so the choice is that among all."""
    accumulator = site.kind.accumulator
    parts: list[_Part] = []
    left, batch, best_s = np.arange(len(space.floor_s)), FIRST_BATCH, math.inf
    while len(left):
        now, left = _lowest(space.floor_s, left, batch)
        batch *= 2
        cuts, resident, which = space.cuts(now)
        if len(which):
            how = {"unit": unit, "dataflow": dataflow}
            for stay, rows, some, cost in stay_estimates(space.nest, site, cuts, **how, resident=resident):
                fits = cost.sram_bytes <= limit
                if accumulator is not None:
                    fits &= cost.accumulator_bytes <= accumulator.size_bytes
                parts.append((which[rows], some, cost, stay, fits))
                best_s = min(best_s, float(cost.latency_s[fits].min(initial=math.inf)))
            # The floor is exact arithmetic on other operands: leave room for rounding.
            left = left[space.floor_s[left] <= best_s * SLACK * (1 + 1e-9)]
    return _choose(space.nest, parts, best_s)


def _lowest(floor_s: npt.NDArray[np.float64], left: Int64, size: int) -> tuple[Int64, Int64]:
    """About `size` of the candidates `left`, those with the lowest floors, and the others; both in order."""
    if len(left) <= size:
        return left, left[:0]
    floors = floor_s[left]
    low = floors <= np.partition(floors, size)[size]
    return left[low], left[~low]


def _choose(nest: Nest, parts: Sequence[_Part], best_s: float) -> _Found:
    """The winner among the evaluated, and the least (scratchpad, accumulator) bytes any of them needs."""
    close: list[tuple[float, int, int, int, int]] = []
    scratchpad: list[tuple[int, int]] = []
    for part, (which, _, cost, _, fits) in enumerate(parts):
        scratchpad.append((int(cost.sram_bytes.min()), int(cost.accumulator_bytes.min())))
        near = np.flatnonzero(fits & (cost.latency_s <= best_s * SLACK)) if best_s < math.inf else ()
        close += [
            (float(cost.dram_bytes[at]), int(cost.transfers[at]), int(which[at]), part, int(at))
            for at in near
        ]
    need = min(one for one, _ in scratchpad), min(other for _, other in scratchpad)
    if not close:
        return _Found(None, need)
    *_, part, at = min(close)
    _, cuts, cost, stay, _ = parts[part]
    return _Found((cuts, cost, stay, at), need)


def _tiling(nest: Nest, found: Winner, quanta: tuple[int, ...], unit: str, dataflow: str, slots: int) -> Tiling:
    return Tiling(
        found.splits,
        found.steps,
        quanta,
        loop_order(nest, found.columns_first),
        unit,
        dataflow,
        found.latency_s,
        found.dram_bytes,
        found.sram_bytes,
        found.accumulator_bytes,
        slots=slots,
        kept_s=found.kept_s,
        staying=found.staying,
    )


def _does_not_fit(nest: Nest, site: Site, limits: Limits, need: tuple[int, int]) -> DoesNotFit:
    sram, accumulator = need
    if sram > limits.sram_bytes or site.kind.accumulator is None:
        what, needed, available, lever = "scratchpad", sram, limits.sram_bytes, "sram.size"
    else:
        what, needed, available, lever = (
            "accumulator",
            accumulator,
            site.kind.accumulator.size_bytes,
            "accumulator.size",
        )
    return DoesNotFit(
        what=f"the smallest tile of operator {nest.name} ({nest.kind})",
        needed=needed,
        available=available,
        where=f"{what} of a {site.kind.name} core",
        levers=(f"a larger {lever}", "a narrower dtype", "a smaller model input"),
    )
