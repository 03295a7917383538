"""Vector work dealt to cores in waves: how a GPU runs an operator that is not a matrix product.

There are two kinds of kernels. One that works element by element cuts the tensor into pieces that keep the threads of
a core busy, whatever its shape. A row kernel (softmax, norms, gated activations) hands every row to one block of
threads, which walks it (row_walk.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sim.cost.element_passes import TRAVERSALS, body_passes
from sim.cost.estimate import Site, aligned
from sim.cost.fills import loop_order
from sim.cost.work import VECTOR_ELEMENTS, vector_tile_cycles
from sim.errors import DoesNotFit
from sim.graph.graph import Graph
from sim.graph.nest import Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.cache import Cache
from sim.hw.chip import Chip
from sim.hw.core import CoreKind, Dispatch
from sim.mapping.row_walk import ELEMENTWISE, Block, accesses, loads_from, row_block, walk_rows
from sim.mapping.search import Deal, Limits, Tiling, VectorKernel
from sim.units import PS_PER_S

Int64 = npt.NDArray[np.int64]


PIECES = Block(128, VECTOR_ELEMENTS)
"""PyTorch's kernels that work element by element (ATen/native/cuda/CUDALoops.cuh)."""

PHASES = 3
"""Pieces on a core at once: one that is loaded, one that is computed, one that is stored."""


FEW_ROWS_COLUMNS = 128
"""Columns of a tile of a product of few rows, as far as what is left of its result tells: gated activations of one row
of 12,288 to 28,672 elements wait for the DRAM at ever more of their steps (A100), those of 7,168 at hardly any. With 64
or 256 columns, which menus have too, the kernels of three GPUs are further off."""


AFTER_ADDITION = ("rms_norm", "layer_norm")
"""Kernels that follow the addition of a residual in a language model."""

ADDED_TENSORS = 3
"""An addition reads two tensors and writes one, row after row. Where the cache does not hold all three, its last rows
have taken the place of its first results, and the norm, which begins with these, finds none in time: on A100 (40 MiB
of cache) a norm takes 10 to 19 % longer per row with 15.7 MB of input and more than with 12.6 and less, on H100 (50
MiB) 32 % longer with 25 MB than with 17."""


def deals_vector(nest: Nest) -> bool:
    """Is the nest one of those that GPU kernels deal out? Others (transposes, pools, gathers) are cut by the search."""
    return nest.kind in ELEMENTWISE or nest.kind in TRAVERSALS


def left_in_cache(graph: Graph, chip: Chip) -> tuple[str, ...]:
    """Inputs of a kernel (`Graph.warm`) that are still in the cache when it begins: all of them or none.

    Where tiles are dealt, a product writes its results as waves end, and the operands of later waves take the place of
    what the first ones wrote: in the cache is what one wave of the largest tiles wrote. Behind more rows than a tile
    has, the last tiles are not full: 384 rows of 8,192 are 3.1 M results, fewer than the 3.5 M of 108 cores, but 2 x 64
    tiles of 256 x 128. Of a kernel that walks rows `share_left` tells more.
    """
    if chip.cache is None or _written(graph) > sum(_wave(kind.dispatch) * kind.count for kind in chip.cores):
        return ()
    cores = sum(kind.count for kind in chip.cores)
    if _by_elements(graph) and all(_tiles(graph, kind.dispatch) > cores for kind in chip.cores):
        return ()
    return graph.warm


def _by_elements(graph: Graph) -> bool:
    """Do all kernels of a graph work element by element?"""
    kernels = [nest for found in graph.nests for nest in found]
    return all(nest.kind in ELEMENTWISE and row_block(nest) is None for nest in kernels)


def _tiles(graph: Graph, dispatch: Dispatch | None) -> int:
    """Tiles, the largest of the menu, of the product that wrote a kernel's inputs; 0 where it has too few rows for
    those."""
    shapes = [graph.tensors[name].shape for name in graph.warm]
    down = max((math.prod(shape[:-1]) for shape in shapes), default=0)
    rows, columns = max(dispatch.tiles, key=math.prod) if dispatch is not None else (down, 1)
    return -(-down // rows) * -(-sum(shape[-1] for shape in shapes) // columns) if down > rows else 0


def share_left(graph: Graph, chip: Chip) -> float:
    """Part of a row kernel's inputs that the kernel before can have left in the cache. A gated activation's: what a
    wave of its product wrote, as `left_in_cache` but by rows: tiles of few rows are FEW_ROWS_COLUMNS wide. A norm's:
    all that an addition wrote, or nothing. 1 where nothing is known of a kernel before.

    28,672 gates and factors of one row, 57,344 elements, on 108 cores: 108 x 128 of them, 0.24.
    """
    if chip.cache is None or not graph.warm:
        return 1.0
    if any(op.kind in AFTER_ADDITION for op in graph.ops):
        moved = ADDED_TENSORS * sum(graph.tensors[name].size_bytes for name in graph.warm)
        return float(moved <= chip.cache.size_bytes)
    rows = graph.tensors[graph.warm[0]].elements // graph.tensors[graph.warm[0]].shape[-1]
    wave = sum(min(_wave(kind.dispatch), rows * FEW_ROWS_COLUMNS) * kind.count for kind in chip.cores)
    return min(1.0, wave / _written(graph))


def _written(graph: Graph) -> int:
    return sum(graph.tensors[name].elements for name in graph.warm)


def _wave(dispatch: Dispatch | None) -> float:
    """Results of the largest tile of a core."""
    return max(rows * columns for rows, columns in dispatch.tiles) if dispatch is not None else math.inf


def deal_vector(
    nest: Nest, site: Site, limits: Limits, dispatch: Dispatch, cache: Cache | None, warm: Sequence[bool],
    left: float = 1.0,
) -> Tiling:  # fmt: skip
    """The nest in tiles of one shape, dealt one by one; `warm` says which operands the cache holds, `left` which part
    of what a product before wrote its last wave left. Raises DoesNotFit where the scratchpad does not hold what the
    threads of one block take at a time."""
    block = row_block(nest)
    rows, stages = 1, PHASES
    if block is None:
        kernel = VectorKernel(accesses(nest) * dispatch.access_instructions / PIECES.elements)
        sides = _piece(nest, site, dispatch)
    else:
        walk = walk_rows(nest, site, dispatch, block, cache, warm, left)
        rows, stages, kernel = walk.rows, walk.stages, walk.kernel
        sides = _box(nest.extents, walk.across, rows)
    steps = tuple(-(-dim.extent // side) for dim, side in zip(nest.dims, sides, strict=True))
    tile = [np.array(-(-dim.extent // part)) for dim, part in zip(nest.dims, steps, strict=True)]
    tiles = math.prod(steps)
    cores = min(tiles, site.cores)
    waves = -(-tiles // cores)
    slots = stages if waves > 1 else 1
    sram_bytes = sum(slots * staged_bytes(o, int(o.tile_bytes(tile)), kernel) for o in (*nest.operands, nest.out))
    if sram_bytes > limits.sram_bytes and stages > 1 and block is not None:
        stages, slots = 1, 1
        sram_bytes = sum(staged_bytes(o, int(o.tile_bytes(tile)), kernel) for o in (*nest.operands, nest.out))
    if sram_bytes > limits.sram_bytes:
        raise DoesNotFit(
            f"what the threads hold of operator {nest.name} ({nest.kind})",
            sram_bytes,
            limits.sram_bytes,
            f"scratchpad of a {site.kind.name} core",
            ("a larger sram.size", "fewer dispatch.threads"),
        )
    latency_s, dram_bytes = _estimate(nest, site, tile, tiles, cores, slots, kernel, cache, warm)
    one = (1,) * len(nest.dims)
    order = loop_order(nest, False)
    deal = Deal(0, cores, waves, rows, 1, stages, 1, stages, kernel)
    return Tiling(one, steps, one, order, "vector", "", latency_s, dram_bytes, sram_bytes, 0, deal)


def staged_bytes(operand: Operand, tile_bytes: int, kernel: VectorKernel | None) -> int:
    """Scratchpad bytes of one slot of an operand: its tile, or what the threads take of it at a time."""
    if kernel is None or not kernel.staged:
        return aligned(tile_bytes)
    return aligned(min(tile_bytes, -(-kernel.staged * DTYPE_BITS[operand.tensor.dtype] // 8)))


def _piece(nest: Nest, site: Site, dispatch: Dispatch) -> tuple[int, ...]:
    """Sides of the tiles of an element-by-element kernel: what a core's threads hold at once is in three phases; small
    tensors are spread over all cores in whole blocks."""
    total = nest.out.tensor.elements
    most = max(1, dispatch.threads * PIECES.elements // PHASES)
    waves = -(-total // (site.cores * most))
    block = PIECES.threads * PIECES.elements
    elements = -(-total // (site.cores * waves * block)) * block
    # Axes that no dimension cuts are whole in every tile.
    whole = total // math.prod(nest.extents)
    return _box(nest.extents, range(len(nest.dims)), max(1, elements // whole))


def _box(extents: Sequence[int], dims: Sequence[int], count: int) -> tuple[int, ...]:
    """Sides of a box of about `count` indices of `dims`, innermost dimensions first; all of the others."""
    sides, left = list(extents), count
    for dim in reversed(dims):
        sides[dim] = min(extents[dim], left)
        left = left // sides[dim] if sides[dim] == extents[dim] else 1
    return tuple(sides)


def kernel_cycles(nest: Nest, kind: CoreKind, elements: Int64, moved: Int64, kernel: VectorKernel) -> Int64:
    """Cycles in which a core issues the instructions of tiles with so many results."""
    passes = body_passes(nest, kind)
    return vector_tile_cycles(elements, passes, kind, moved, instructions=kernel.instructions)


def _estimate(
    nest: Nest, site: Site, tile: Sequence[Int64], tiles: int, cores: int, slots: int, kernel: VectorKernel,
    cache: Cache | None, warm: Sequence[bool],
) -> tuple[float, float]:  # fmt: skip
    """(seconds, bytes between the chip and its DRAM): waves of loading, computing and storing, one after another with
    one slot, else as fast as the slowest of them; or the DRAM, where that is slower."""
    kind, dma = site.kind, site.kind.dma
    loaded = sum(int(o.tile_bytes(tile)) for o in nest.operands)
    stored = int(nest.out.tile_bytes(tile))
    elements = np.array(math.prod(int(axis.extent(tile)) for axis in nest.out.axes))
    cycles = int(kernel_cycles(nest, kind, elements, np.array(loaded + stored), kernel))
    work_s = max(cycles / kind.clock_hz + kernel.waiting_ps / PS_PER_S, kernel.floor_ps / PS_PER_S)
    lane = dma.bandwidth_bytes_per_s * dma.channels
    dram = site.dram.bandwidth_bytes_per_s * kind.calibration.dram_efficiency
    # The tiles that a core has slots for are loaded beside each other, and by all cores at once.
    source = max(dram, loads_from(site, cache)) if warm[0] else dram
    trip_s = site.head_latency_s + min(slots, tiles / cores) * loaded / min(lane, source / cores) + work_s
    wave_s = max(work_s, (loaded + stored) / lane, trip_s / slots)
    cold = [operand for operand, there in zip(nest.operands, warm, strict=True) if not there]
    moved = float(sum(operand.size_bytes for operand in (*cold, nest.out)))
    dram_s = moved / dram
    waves = -(-tiles // cores)
    return max((waves - 1) * wave_s + trip_s, dram_s) + site.send_latency_s + stored / lane, moved
