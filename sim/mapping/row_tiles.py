"""Contractions on a row-stationary array: the law's mapping of a layer (sim/hw/row_stationary.py) as a tiling.

One iteration of the loops is all passes that share an input tile: q r channels, m filters, e rows of n images. A matrix
product is the layer in which every row is an image of one element. Batches of it, and groups, follow one another.

The array stands still while inputs and results cross the link to the DRAM; filters of the next pass arrive beside its
work. Seen on Eyeriss, whose measured total and processing latencies differ by that much (within a tenth of the total;
tests/against/test_eyeriss_silicon.py), also where the mapping has two sets of banks for inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.cost.coding import codable, coded_bytes
from sim.cost.element_passes import drain_passes
from sim.cost.estimate import ALIGNMENT_BYTES, BUFFER_SLOTS, Site, aligned
from sim.cost.fills import loop_order
from sim.cost.row_stationary import RowTiles
from sim.cost.work import tile_overhead_cycles, vector_tile_cycles
from sim.errors import DoesNotFit, InputError
from sim.graph.nest import Nest, Operand
from sim.hw.core import Array, CoreKind
from sim.hw.row_stationary import ConvShape, RowMapping, layer_cycles, layer_mapping, undefined_reason
from sim.mapping.loops import Loops
from sim.mapping.search import RowTiling, Tiling

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowDims:
    """Which loops of a nest are the law's images, rows, columns, filters and channels; None where the law has one of
    them and the nest has not. All other loops take one index at a time."""

    images: int | None
    rows: int | None
    columns: int | None
    filters: int
    channels: int


def row_dims(nest: Nest) -> RowDims:
    """The law's loops of a nest that it covers."""
    rows, filters, channels = nest.role("m"), nest.role("n")[-1], nest.role("k")[-1]
    if nest.kind == "matmul":
        return RowDims(rows[-1] if rows else None, None, None, filters, channels)
    batch, *spatial = rows
    return RowDims(batch, spatial[0] if len(spatial) > 1 else None, spatial[-1], filters, channels)


def undefined(nest: Nest, array: Array) -> str:
    """Why a contraction cannot run on a row-stationary array; "" where it can."""
    assert array.row_stationary is not None
    if nest.kind == "packed_matmul":
        return "row_stationary is not defined for packed weights"
    if nest.kind == "conv_transpose":
        return "row_stationary is not defined for transposed convolutions"
    if len(nest.role("k")) > 1:
        return "row_stationary is not defined for sums over several dimensions"
    if nest.kind == "conv":
        spatial = nest.operands[0].axes[2:]
        if len(spatial) > 2:
            return "row_stationary is not defined for convolutions over volumes"
        if math.prod(axis.high - axis.low + 1 for axis in spatial) != nest.taps:
            return "row_stationary is not defined for dilated filters"
    reason = undefined_reason(layer_shape(nest, nest.extents), array.rows, array.row_stationary)
    return f"row_stationary is not defined for {reason}" if reason else ""


def layer_shape(nest: Nest, extents: Sequence[int]) -> ConvShape:
    """The layer of one group or batch, as far as `extents` (of one core) go."""
    dims = row_dims(nest)

    def extent(dim: int | None) -> int:
        return 1 if dim is None else extents[dim]

    shape = ConvShape(
        extent(dims.images),
        extent(dims.channels),
        extent(dims.filters),
        extent(dims.rows),
        extent(dims.columns),
    )
    if nest.kind == "matmul":
        return shape
    spatial = nest.operands[0].axes[2:]
    kernel = [axis.high - axis.low + 1 for axis in spatial]
    stride = [axis.terms[0][1] for axis in spatial]
    high, wide = (kernel[0], kernel[1]) if len(spatial) == 2 else (1, kernel[0])
    down, across = (stride[0], stride[1]) if len(spatial) == 2 else (1, stride[0])
    return replace(shape, kernel_rows=high, kernel_columns=wide, row_stride=down, column_stride=across)


def row_search(nest: Nest, site: Site, splits: Sequence[tuple[int, ...]]) -> Tiling:
    """The law's mapping under the partition over cores with the least estimated latency; sums are not split.

    Raises DoesNotFit where no row of one filter fits the scratchpad, InputError where only split sums are offered.
    """
    whole = [split for split in splits if all(split[dim] == 1 for dim in nest.role("k"))]
    if not whole:
        raise InputError("partition: row-stationary arrays do not share sums; choose data or channel")
    tried = (_tiling(nest, site, split) for split in whole)
    found = [tiling for tiling in tried if tiling is not None]
    if not found:
        raise _does_not_fit(nest, site)
    return min(found, key=lambda tiling: tiling.latency_s)


def row_tiles(nest: Nest, loops: Loops) -> RowTiles:
    """Tile sizes [cores, iterations]."""
    dims = row_dims(nest)
    one = np.ones_like(loops.low[0])

    def size(dim: int | None) -> Int64:
        return one if dim is None else np.asarray(loops.high[dim] - loops.low[dim])

    return RowTiles(
        size(dims.images), size(dims.filters), size(dims.rows), size(dims.columns), size(dims.channels)
    )


def _tiling(nest: Nest, site: Site, split: tuple[int, ...]) -> Tiling | None:
    """The tiling of one partition; None where nothing fits."""
    share = tuple(-(-dim.extent // parts) for dim, parts in zip(nest.dims, split, strict=True))
    array = site.kind.array
    assert array is not None
    assert array.row_stationary is not None
    held = _results_held(nest)
    mapping = layer_mapping(layer_shape(nest, share), array.rows, array.cols, array.row_stationary, held)
    if mapping is None:
        return None
    dims = row_dims(nest)
    law = (dims.images, dims.rows, dims.columns, dims.filters, dims.channels)
    parts = (mapping.images, mapping.rows, mapping.columns, mapping.filters, mapping.pass_channels)
    sides = {dim: size for dim, size in zip(law, parts, strict=True) if dim is not None}
    quanta = tuple(min(sides.get(dim, 1), size) for dim, size in enumerate(share))
    steps = tuple(-(-size // quantum) for size, quantum in zip(share, quanta, strict=True))
    tile = [np.array(size) for size in quanta]
    held = sum(int(aligned(o.tile_bytes(tile))) for o in nest.epilogue)
    held += mapping.input_slots * int(aligned(nest.operands[0].tile_bytes(tile)))
    held += int(aligned(nest.out.tile_bytes(tile)))
    room = (site.kind.sram.size_bytes - held) // BUFFER_SLOTS // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    filters = int(aligned(nest.operands[1].tile_bytes(tile)))
    if room < ALIGNMENT_BYTES:
        return None
    staging = min(room, filters)
    latency_s, dram_bytes = _estimate(nest, site, mapping, split, steps, tile)
    return Tiling(
        split,
        steps,
        quanta,
        loop_order(nest, False),
        "array",
        "row_stationary",
        latency_s,
        dram_bytes,
        held + BUFFER_SLOTS * staging,
        0,
        rows=RowTiling(mapping, staging),
    )


def _results_held(nest: Nest) -> int:
    """The sums, and operands as large as the result (a residual)."""
    return 1 + sum(nest.per_result(o) for o in nest.epilogue)


def _estimate(
    nest: Nest,
    site: Site,
    mapping: RowMapping,
    split: tuple[int, ...],
    steps: tuple[int, ...],
    tile: Sequence[Int64],
) -> tuple[float, float]:
    """(seconds, DRAM bytes): the array, or the filters' way from the DRAM where that is slower; inputs arrive and
    results leave while nothing is computed."""
    kind, dims = site.kind, row_dims(nest)
    lawful = {dims.images, dims.rows, dims.columns, dims.filters, dims.channels}
    repeats = math.prod(size for dim, size in enumerate(steps) if dim not in lawful)
    width = kind.sram.bandwidth_bytes_per_s / kind.clock_hz
    iterations = math.prod(steps)
    tiles = iterations // steps[dims.channels]
    cycles = repeats * layer_cycles(mapping, width) / kind.calibration.array_efficiency
    compute_s = (cycles + iterations * tile_overhead_cycles(kind)) / kind.clock_hz
    elements = np.array(math.prod(int(axis.extent(tile)) for axis in nest.out.axes))
    drain_s = tiles * int(vector_tile_cycles(elements, drain_passes(nest, kind), kind)) / kind.clock_hz
    cores = math.prod(split)
    rate = min(site.dram.bandwidth_bytes_per_s * kind.calibration.dram_efficiency / cores, _lane(kind))
    inputs, filters = (iterations * _moved_bytes(o, tile, kind) for o in nest.operands[:2])
    results = tiles * sum(_moved_bytes(o, tile, kind) for o in (nest.out, *nest.epilogue))
    return (
        max(compute_s, filters / rate)
        + (inputs + results) / rate
        + drain_s
        + (1 + iterations + tiles) * site.head_latency_s,
        float(cores * (inputs + filters + results)),
    )


def _moved_bytes(operand: Operand, tile: Sequence[Int64], kind: CoreKind) -> int:
    """A tile on its way to or from the DRAM."""
    if not kind.dma.run_length_coding or not codable(operand):
        return int(operand.tile_bytes(tile))
    return int(coded_bytes(operand, np.array([int(axis.extent(tile)) for axis in operand.axes])))


def _lane(kind: CoreKind) -> float:
    return float(kind.dma.channels * kind.dma.bandwidth_bytes_per_s)


def _does_not_fit(nest: Nest, site: Site) -> DoesNotFit:
    assert site.kind.array is not None
    limits = site.kind.array.row_stationary
    assert limits is not None
    shape = replace(layer_shape(nest, nest.extents), images=1, in_channels=1, out_channels=1, rows=1)
    wide = (min(shape.columns, limits.longest_row) - 1) * shape.column_stride + shape.kernel_columns
    banks = -(-2 * shape.kernel_rows * wide // limits.bank_bytes)
    banks += _results_held(nest) * -(-2 * min(shape.columns, limits.longest_row) // limits.bank_bytes)
    return DoesNotFit(
        what=f"one row of operator {nest.name} ({nest.kind}) for the row-stationary array",
        needed=banks * limits.bank_bytes,
        available=limits.banks * limits.bank_bytes,
        where=f"banks for inputs and sums of a {site.kind.name} core",
        levers=("more row_stationary.banks", "a smaller row_stationary.longest_row", "a smaller model input"),
    )
