"""How a GPU's row kernels walk their rows: softmax, norms, gated activations.

A block of threads takes one row, as many elements at a time as it has threads. At every step all its threads wait for
their loads, more or less together, and then issue: so a core that holds two blocks takes less than twice as long as
with one, and one row of 8192 takes longer than eight of 1024. Rows that are read again come from the core's own cache,
from the chip's, or from the DRAM, whichever still holds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.cost.element_passes import TRAVERSALS, body_passes
from sim.cost.estimate import Site
from sim.cost.work import VECTOR_ELEMENTS, vector_cost, vector_instructions
from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.cache import Cache
from sim.hw.core import CoreKind, Dispatch
from sim.mapping.search import VectorKernel
from sim.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a kernel: its threads at most, and the elements that each takes at a time."""

    threads: int
    elements: int


GATED = "gated"

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

HELD_ROWS = 4
"""Rows that are held come to a block by so many, one to each of its warps (ibid.)."""

READS: Mapping[str, int] = {**TRAVERSALS, "layer_norm": 2}
"""How often a row kernel reads its row. Layer norm finds mean and variance together (Welford; PyTorch,
ATen/native/cuda/layer_norm_kernel.cu), and reads the row once more to apply them."""

DRIFTING_BLOCKS = 8
"""So many blocks on a core are taken to be in different phases of their rows; an estimate."""

ROWS_BETWEEN = 2
"""Rows of a core that are taken to lie between two reads at a time, of however many blocks; an estimate."""

ELEMENTWISE = frozenset({"elementwise", "batch_norm", "rope", "all_reduce"})
WARP = 32
"""Threads come in whole warps."""

DEPENDENT_CYCLES = 10
"""From an instruction of a thread to the next one that needs its result: 4 for arithmetic in public measurements of
NVIDIA GPUs, 20 and more for functions, conversions and addresses; an estimate."""

EXCHANGE_CYCLES = 30
"""One exchange of partial sums between threads: a shuffle takes 23 to 33 cycles in public measurements of NVIDIA GPUs;
the sum over a block is a tree of them."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Tiles of a row kernel: `rows` a tile of the dimensions `across`, through `stages` slots. Single rows where a core
    holds few blocks at once; else all that it holds, fewer where there are not enough rows for all cores."""

    rows: int
    across: tuple[int, ...]
    stages: int
    kernel: VectorKernel


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a nest on its cores: how many, of how many elements; threads and steps of a block that walks one; blocks
    that a core holds at once, and rows of the busiest core."""

    count: int
    length: int
    threads: int
    steps: int
    held: int
    mine: int


def row_block(nest: Nest) -> Block | None:
    """The block that walks a row, None where the kernel works element by element. A gated activation is a function
    times another tensor of the same shape."""
    gates = any(operand.dims == nest.out.dims for operand in nest.epilogue)
    gated = gates and any(name in nest.own for name in ("sigmoid", "tanh", "erf", "exp"))
    return ROW_BLOCKS.get(GATED if gated else nest.kind)


def accesses(nest: Nest) -> float:
    """Elements read and written per element of the result; the main operand is read once per traversal."""
    elements = nest.out.tensor.elements
    share = [min(1.0, operand.elements / elements) for operand in nest.operands]
    rows = nest.kind in TRAVERSALS
    # Scale and offset of a norm are read with every row.
    read = sum(1.0 for _ in nest.operands[1:]) if rows else sum(share[1:])
    return 1.0 + share[0] * _reads(nest, elements // math.prod(nest.extents)) + read


def walk_rows(
    nest: Nest, site: Site, dispatch: Dispatch, block: Block, cache: Cache | None, warm: Sequence[bool],
    left: float = 1.0,
) -> Walk:  # fmt: skip
    """The tiles of a row kernel, and what its blocks wait for; `warm` says which operands the cache holds, `left`
    which part of a gated activation's the last wave of the product before it left there."""
    kind = site.kind
    whole = {dim for dim, _ in nest.out.axes[-1].terms} if nest.kind in ELEMENTWISE else set()
    across = tuple(dim for dim in range(len(nest.dims)) if dim not in whole)
    rows = _rows(nest, site, dispatch, block, math.prod(nest.dims[dim].extent for dim in across))
    instructions = accesses(nest) * dispatch.access_instructions / block.elements
    instructions += vector_cost(_more_passes(nest, rows.length), kind) * dispatch.issue / kind.vector.lanes
    chain = (instructions + vector_instructions(body_passes(nest, kind), kind)) * block.elements * DEPENDENT_CYCLES
    together = min(rows.held, rows.mine)
    again_s = _again_s(nest, site, rows, dispatch, cache)
    # Sums hold a block up between loading and storing; without them its warps drift apart, and so do blocks. Rows that
    # are read again from afar keep others from arriving.
    alone = nest.kind in TRAVERSALS and together == 1
    look_s = _look_s(nest, site, cache, left)
    waiting_s = _waiting_s(nest, site, rows, cache, look_s) + again_s
    alone_s = waiting_s + rows.steps * chain / kind.clock_hz
    stages = 1 if alone or again_s else 2
    source = loads_from(site, cache if warm[0] else None)
    beside_s = _beside_s(nest, site, rows, stages, source, cache)
    if together < DRIFTING_BLOCKS:
        # Blocks that a core holds together wait together, and take turns to issue; they end one by one.
        rounds = -(-rows.mine // rows.held) / rows.mine
        # A block waits for its first loads too: no thread loads ahead for a block that has not begun, as slots do here
        # for all but a core's first blocks and those of a last wave of fewer cores.
        ahead = -(-max(1, rows.count // site.cores) // rows.held) - 1
        first_s = look_s * ahead / rows.mine
        tile, waiting_s = 1, waiting_s * rounds - beside_s + first_s
        alone_s = max(alone_s * rounds - beside_s + first_s, alone_s * rounds / rows.steps)
    else:
        tile, waiting_s = together, again_s * together
    starts = tile / HELD_ROWS if rows.length <= HELD.get(nest.kind, 0) else tile
    waiting_s += starts * dispatch.block_start_ps / PS_PER_S
    staged = tile * rows.threads * block.elements
    kernel = VectorKernel(instructions, round(waiting_s * PS_PER_S), round(alone_s * PS_PER_S), staged)
    return Walk(tile, across, stages, kernel)


def _rows(nest: Nest, site: Site, dispatch: Dispatch, block: Block, count: int) -> _Rows:
    length = max(1, nest.out.tensor.elements // count)
    threads = min(block.threads, -(-length // (WARP * block.elements)) * WARP)
    steps = -(-length // (threads * block.elements))
    held, mine = max(1, dispatch.threads // threads), -(-count // site.cores)
    return _Rows(count, length, threads, steps, held, mine)


def _reads(nest: Nest, length: int) -> int:
    return 1 if length <= HELD.get(nest.kind, 0) else READS.get(nest.kind, 1)


def _more_passes(nest: Nest, length: int) -> Mapping[str, float]:
    """What kernels compute beside the operator's definition. Softmax divides (PersistentSoftmax.cuh), and where its row
    is not held, it takes the exponentials again (SoftMax.cu, SoftMaxForwardEpilogue)."""
    if nest.kind != "softmax":
        return {}
    return {"div": 1.0} if _reads(nest, length) == 1 else {"div": 1.0, "exp": 1.0}


def _waiting_s(nest: Nest, site: Site, rows: _Rows, cache: Cache | None, look_s: float) -> float:
    """Seconds for which the threads of a block wait for their loads, `look_s` at a time, and for one another."""
    waiting_s = (rows.steps - 1) * look_s
    if nest.kind in TRAVERSALS and len(nest.operands) > 1:
        # The last walk, which applies the sums, waits for scale and offset at every step. The first row of a core finds
        # them in the DRAM, as all weights, the others in the cache.
        more_s = (site.head_latency_s - _look_up_s(site, cache)) / rows.mine
        waiting_s += rows.steps * (_look_up_s(site, cache) + more_s)
    tree = (TRAVERSALS.get(nest.kind, 1) - 1) * math.ceil(math.log2(rows.threads)) * EXCHANGE_CYCLES
    return waiting_s + tree / site.kind.clock_hz


def _look_s(nest: Nest, site: Site, cache: Cache | None, left: float) -> float:
    """Seconds from a load of a thread to its operand, on average: from the DRAM, or from a cache that holds the part
    that is `left` of it, as far as that holds all tensors of the kernel."""
    if cache is None or _moved_bytes(nest) > cache.size_bytes:
        return site.head_latency_s
    return left * _look_up_s(site, cache) + (1 - left) * site.head_latency_s


def _look_up_s(site: Site, cache: Cache | None) -> float:
    return site.head_latency_s - (site.dram.latency_ps / PS_PER_S if cache is not None else 0.0)


def _row_bytes(nest: Nest, length: int) -> float:
    """Bytes of a row of the operands that are as large as the result."""
    whole = nest.out.tensor.elements
    return length * sum(DTYPE_BITS[o.tensor.dtype] for o in nest.operands if o.elements == whole) / 8


def _beside_s(nest: Nest, site: Site, rows: _Rows, stages: int, source: float, cache: Cache | None) -> float:
    """What a row's arrival and its result's departure take that goes on beside the steps of its walk, where tasks
    follow one another. With two slots that of most rows is hidden anyway; not that of the first ones, nor of the last
    wave of fewer cores, whose loads wait for slots of the one before: their time is taken off a core's rows alike."""
    moved = _moved_bytes(nest)
    # Beyond what the cache holds, every line that comes sends a result back before it.
    evicting = max(0.0, 1 - cache.size_bytes / moved) if cache is not None else 0.0
    busy, together = min(rows.count, site.cores), min(rows.held, rows.mine)
    if stages == 1:
        found_s = _transfer_s(nest, site, rows.length, 1, busy, source, evicting)
    else:
        found_s = _transfer_s(nest, site, rows.length, min(stages, together), busy, source, 0.0)
        rest = rows.count % site.cores
        if rest and rows.count >= stages * site.cores:
            found_s += _transfer_s(nest, site, rows.length, 1, rest, source, evicting)
        found_s /= rows.mine
    return found_s * (1 - 1 / rows.steps)


def _transfer_s(
    nest: Nest, site: Site, length: int, together: int, busy: int, source: float, evicting: float
) -> float:
    """Time in which rows of this `length` arrive at each of the `busy` cores, as many as it loads at once, and a result
    leaves it: on the channels of the core, an operand on each, or at the rate of the `source` of all loads, with the
    share of results that leave the cache meanwhile for the DRAM."""
    whole, dma = nest.out.tensor.elements, site.kind.dma
    operands = sum(operand.elements == whole for operand in nest.operands)
    loaded, stored = together * _row_bytes(nest, length), length * DTYPE_BITS[nest.out.tensor.dtype] / 8
    rate = dma.bandwidth_bytes_per_s * max(1, min(operands, dma.channels))
    evicted_s = evicting * together * stored * busy / loads_from(site, None)
    return max(loaded / rate, loaded * busy / source + evicted_s) + stored / dma.bandwidth_bytes_per_s


def _moved_bytes(nest: Nest) -> int:
    return sum(operand.size_bytes for operand in (*nest.operands, nest.out))


def _again_s(nest: Nest, site: Site, rows: _Rows, dispatch: Dispatch, cache: Cache | None) -> float:
    """Time in which a block reads its row again, as often as it does: none where the core's own cache still holds
    the rows."""
    times = _reads(nest, rows.length) - 1
    row_bytes = _row_bytes(nest, rows.length)
    together, busy = min(rows.held, rows.mine, ROWS_BETWEEN), min(rows.count, site.cores)
    if not times or row_bytes * together <= (dispatch.l1_bytes or site.kind.sram.size_bytes):
        return 0.0
    if cache is not None and row_bytes * together * busy <= cache.size_bytes:
        shared = loads_from(site, cache)
    else:
        shared = loads_from(site, None)
    return times * row_bytes / min(_lane(site.kind), shared / busy)


def _lane(kind: CoreKind) -> float:
    return float(kind.dma.bandwidth_bytes_per_s * kind.dma.channels)


def loads_from(site: Site, cache: Cache | None) -> float:
    """Bytes a second that all cores together load from a cache; without one, from the DRAM."""
    calibration = site.kind.calibration
    if cache is not None:
        return float(cache.bandwidth_bytes_per_s * calibration.cache_efficiency)
    return float(site.dram.bandwidth_bytes_per_s * calibration.dram_efficiency)
