"""Vector work dealt to cores in waves: how a GPU runs an operator that is not a matrix product.

There are two kinds of kernels. One that works element by element cuts the tensor into pieces that keep the threads of
a core busy, whatever its shape. A row kernel (softmax, norms, gated activations) hands every row to one block of
threads, which walks it: as many elements at a time as the block has threads. A step of the walk takes as long as a
thread waits for its loads and for its own instructions, one after another, or as the core takes to issue those of all
its threads. So one row of 8192 takes longer than eight of 1024, and nearly as long as one row on every core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import TRAVERSALS, Site, aligned, body_passes, loop_order
from sim.cost.work import VECTOR_ELEMENTS, vector_cost, vector_tile_cycles
from sim.errors import DoesNotFit
from sim.graph.nest import Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.cache import Cache
from sim.hw.core import CoreKind, Dispatch
from sim.mapping.search import Deal, Limits, Tiling, VectorKernel
from sim.units import PS_PER_S

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a kernel: its threads at most, and the elements that each takes at a time."""

    threads: int
    elements: int


PIECES = Block(128, VECTOR_ELEMENTS)
"""PyTorch's kernels that work element by element (ATen/native/cuda/CUDALoops.cuh)."""

GATED = "gated"
PHASES = 3
"""Pieces on a core at once: one that is loaded, one that is computed, one that is stored."""

ROW_BLOCKS: Mapping[str, Block] = {
    "rms_norm": Block(1024, 1),
    GATED: Block(1024, 1),
    "layer_norm": Block(128, VECTOR_ELEMENTS),
    "group_norm": Block(512, VECTOR_ELEMENTS),
    "softmax": Block(1024, VECTOR_ELEMENTS),
}
"""Row kernels. One element at a time: vLLM of 2023 (csrc/layernorm_kernels.cu, activation_kernels.cu), which the
measurements are of; vectors of four: PyTorch (ATen/native/cuda/layer_norm_kernel.cu, SoftMax.cu)."""

HELD: Mapping[str, int] = {"softmax": 1024}
"""Rows of up to so many elements stay in the registers of the threads that read them: they are read once, not once per
reduction (PyTorch, ATen/native/cuda/PersistentSoftmax.cuh)."""

READS: Mapping[str, int] = {**TRAVERSALS, "layer_norm": 2}
"""How often a row kernel reads its row. Layer norm finds mean and variance together (Welford; PyTorch,
ATen/native/cuda/layer_norm_kernel.cu), and reads the row once more to apply them."""

DRIFTING_BLOCKS = 8
"""So many blocks on a core are taken to be in different phases of their rows; an estimate."""

ELEMENTWISE = frozenset({"elementwise", "batch_norm", "rope"})
WARP = 32
"""Threads come in whole warps."""

DEPENDENT_CYCLES = 7
"""From an instruction of a thread to the next one that needs its result: 4 for arithmetic in public measurements of
NVIDIA GPUs, more for conversions and addresses; an estimate."""

EXCHANGE_CYCLES = 30
"""One exchange of partial sums between threads: a shuffle takes 23 to 33 cycles in public measurements of NVIDIA GPUs;
the sum over a block is a tree of them."""


def deals_vector(nest: Nest) -> bool:
    """Is the nest one of those that GPU kernels deal out? Others (transposes, pools, gathers) are cut by the search."""
    return nest.kind in ELEMENTWISE or nest.kind in TRAVERSALS


def row_block(nest: Nest) -> Block | None:
    """The block that walks a row, None where the kernel works element by element. A gated activation is a function
    times another tensor of the same shape."""
    gates = any(operand.dims == nest.out.dims for operand in nest.epilogue)
    gated = gates and any(name in nest.own for name in ("sigmoid", "tanh", "erf", "exp"))
    return ROW_BLOCKS.get(GATED if gated else nest.kind)


def deal_vector(nest: Nest, site: Site, limits: Limits, dispatch: Dispatch, cache: Cache | None) -> Tiling:
    """The nest in tiles of one shape, dealt one by one. Raises DoesNotFit where the scratchpad does not hold what the
    threads of one block take at a time."""
    block = row_block(nest)
    rows, stages = 1, PHASES
    if block is None:
        kernel = VectorKernel(_accesses(nest) * dispatch.access_instructions / PIECES.elements)
        sides = _piece(nest, site, dispatch)
    else:
        rows, sides, kernel = _walk(nest, site, dispatch, block, cache)
        # Sums hold a block up between loading and storing; without them its warps drift apart, and so do blocks where
        # a core holds many.
        stages = 1 if nest.kind in TRAVERSALS and rows < DRIFTING_BLOCKS else 2
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
    latency_s, dram_bytes = _estimate(nest, site, tile, tiles, cores, slots, kernel)
    one = (1,) * len(nest.dims)
    order = loop_order(nest, False)
    deal = Deal(0, cores, waves, rows, 1, stages, 1, stages, kernel)
    return Tiling(one, steps, one, order, "vector", "", latency_s, dram_bytes, sram_bytes, 0, deal)


def staged_bytes(operand: Operand, tile_bytes: int, kernel: VectorKernel | None) -> int:
    """Scratchpad bytes of one slot of an operand: its tile, or what the threads take of it at a time."""
    if kernel is None or not kernel.staged:
        return aligned(tile_bytes)
    return aligned(min(tile_bytes, -(-kernel.staged * DTYPE_BITS[operand.tensor.dtype] // 8)))


def _accesses(nest: Nest) -> float:
    """Elements read and written per element of the result; the main operand is read once per traversal."""
    elements = nest.out.tensor.elements
    share = [min(1.0, operand.tensor.elements / elements) for operand in nest.operands]
    rows = nest.kind in TRAVERSALS
    # Scale and offset of a norm are read with every row.
    read = sum(1.0 for _ in nest.operands[1:]) if rows else sum(share[1:])
    length = elements // math.prod(nest.extents)
    reads = 1 if length <= HELD.get(nest.kind, 0) else READS.get(nest.kind, 1)
    return 1.0 + share[0] * reads + read


def _piece(nest: Nest, site: Site, dispatch: Dispatch) -> tuple[int, ...]:
    """Sides of the tiles of an element-by-element kernel: what a core's threads hold at once is in three phases; small
    tensors are spread over all cores in whole blocks."""
    total = math.prod(nest.extents)
    most = max(1, dispatch.threads * PIECES.elements // PHASES)
    waves = -(-total // (site.cores * most))
    block = PIECES.threads * PIECES.elements
    elements = -(-total // (site.cores * waves * block)) * block
    return _box(nest.extents, range(len(nest.dims)), elements)


def _walk(
    nest: Nest, site: Site, dispatch: Dispatch, block: Block, cache: Cache | None
) -> tuple[int, tuple[int, ...], VectorKernel]:
    """(rows, sides, kernel) of the tiles of a row kernel: the rows that a core holds at once, fewer where there are not
    enough for all cores."""
    kind = site.kind
    whole = {dim for dim, _ in nest.out.axes[-1].terms} if nest.kind in ELEMENTWISE else set()
    across = [dim for dim in range(len(nest.dims)) if dim not in whole]
    count = math.prod(nest.dims[dim].extent for dim in across)
    length = max(1, nest.out.tensor.elements // count)
    threads = min(block.threads, -(-length // (WARP * block.elements)) * WARP)
    rows = max(1, min(dispatch.threads // threads, -(-count // site.cores)))
    steps = -(-length // (threads * block.elements))
    instructions = _accesses(nest) * dispatch.access_instructions / block.elements
    # What a step waits for: a look into the cache, where the rest of its line came with the first thread's.
    trip_s = site.head_latency_s
    if cache is not None:
        trip_s = (kind.dma.setup_latency_ps + cache.latency_ps) / PS_PER_S
    chain = (instructions + vector_cost(body_passes(nest, kind), kind)) * block.elements * DEPENDENT_CYCLES
    tree = (TRAVERSALS.get(nest.kind, 1) - 1) * math.ceil(math.log2(threads)) * EXCHANGE_CYCLES
    waiting_s = (steps - 1) * trip_s + (steps * chain + tree) / kind.clock_hz
    floor_ps = round(waiting_s * PS_PER_S)
    return rows, _box(nest.extents, across, rows), VectorKernel(instructions, floor_ps, rows * threads * block.elements)


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
    nest: Nest, site: Site, tile: Sequence[Int64], tiles: int, cores: int, slots: int, kernel: VectorKernel
) -> tuple[float, float]:
    """(seconds, bytes between the chip and its DRAM): waves of loading, computing and storing, one after another with
    one slot, else as fast as the slowest of them; or the DRAM, where that is slower."""
    kind, dma = site.kind, site.kind.dma
    loaded = sum(int(o.tile_bytes(tile)) for o in nest.operands)
    stored = int(nest.out.tile_bytes(tile))
    elements = np.array(math.prod(int(axis.extent(tile)) for axis in nest.out.axes))
    cycles = int(kernel_cycles(nest, kind, elements, np.array(loaded + stored), kernel))
    work_s = max(cycles / kind.clock_hz, kernel.floor_ps / PS_PER_S)
    lane = dma.bandwidth_bytes_per_s * dma.channels
    trip_s = site.head_latency_s + loaded / lane + work_s
    wave_s = max(work_s, (loaded + stored) / lane, trip_s / slots)
    moved = float(sum(t.size_bytes for t in (*(o.tensor for o in nest.operands), nest.out.tensor)))
    dram_s = moved / (site.dram.bandwidth_bytes_per_s * kind.calibration.dram_efficiency)
    waves = -(-tiles // cores)
    return max((waves - 1) * wave_s + trip_s, dram_s) + site.send_latency_s + stored / lane, moved
