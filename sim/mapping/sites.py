"""Where an operator may run: the cores of one kind as the estimate sees them, their units, what would fit."""

from __future__ import annotations

import math

from sim.cost.estimate import Site
from sim.cost.wires import may_limit, wiring_of
from sim.errors import Diagnostic, InputError
from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.hw.vector import NATIVE
from sim.mapping.fabric import Fabric
from sim.mapping.memo import Hashed
from sim.mapping.row_tiles import undefined
from sim.mapping.ways import Level


def usable_units(nest: Nest, kind: CoreKind) -> tuple[str, ...]:
    """Array, vector unit, or both where either may win: contractions whose reduction or width is a few elements
    (depthwise, matrix times vector) may run faster on the vector unit."""
    if not nest.contraction:
        return ("vector",)
    if nest.kind == "attention":
        return ("array",) if fuses_attention(kind) else ()
    if kind.array is None or nest.operands[0].tensor.dtype not in kind.array.rates:
        return ("vector",)
    if kind.dispatch is not None and _depthwise(nest):
        return ("vector",)
    if kind.array.row_stationary is not None:
        return ("vector",) if undefined(nest, kind.array) else ("array",)
    return ("array", "vector")


def check_dtypes(graph: Graph, chip: Chip) -> None:
    """Refuse a model whose contractions no array of the chip computes in their format. Raises InputError."""
    arrays = [kind.array for kind in chip.cores if kind.array is not None]
    kinds = ("conv", "matmul", "packed_matmul", "attention")
    found = sorted({graph.tensors[op.inputs[0]].dtype for op in graph.ops if op.kind in kinds})
    for dtype in found if arrays else ():
        if not any(dtype in array.rates for array in arrays):
            offered = ", ".join(sorted({name for array in arrays for name in array.rates}))
            raise InputError(
                f"the arrays of chip '{chip.name}' cannot multiply in {dtype}, the format of model '{graph.name}'; "
                f"choose another with --dtype: {offered}"
            )


def fuses_attention(kind: CoreKind) -> bool:
    """Can cores keep the scores of an attention? Those with an accumulator do; row-stationary arrays have no nest for
    it."""
    return kind.accumulator is not None and kind.array is not None and not kind.array.row_stationary


def check_attention(graph: Graph, chip: Chip) -> None:
    """Refuse attention in one operator on a chip that keeps no scores. Raises InputError."""
    if any(op.kind == "attention" for op in graph.ops) and not all(fuses_attention(kind) for kind in chip.cores):
        raise InputError(
            Diagnostic(
                f"attention: chip '{chip.name}' has cores that cannot keep scores",
                hint="that takes an array with an accumulator, and no row-stationary one; use 'stored'",
            )
        )


def _depthwise(nest: Nest) -> bool:
    """One filter of one channel for every result: a tile of a product would have one column, a library's kernels
    multiply on lanes."""
    return bool(nest.role("g")) and math.prod(nest.extents[dim] for dim in (*nest.role("n"), *nest.role("k"))) == 1


def working_bytes(nest: Nest, kind: CoreKind) -> int:
    """Bytes of all tensors of a nest, and of the unpacked copies (4 bytes an element) that the vector unit works on."""
    total = 0
    for operand in (*nest.operands, nest.out):
        unpacked = not nest.contraction and kind.vector.conversion(operand.tensor.dtype) != NATIVE
        total += operand.size_bytes + (4 * operand.elements if unpacked else 0)
    return total


def make_site(chip: Chip, fabric: Fabric, kind: CoreKind, cores: tuple[int, ...]) -> Site:
    """What the estimate needs to know of a group of cores."""
    # Dealt tiles are looked for in the cache first, if there is one.
    through: Level = "fill" if kind.dispatch is not None and chip.cache is not None else "dram"
    load = [fabric.load(core, 0, 256, through).latency_ps for core in cores]
    ports = {fabric.network.nearest_port(fabric.node(core)) for core in cores}
    net = chip.interconnect
    limited = may_limit(net, chip.dram.bandwidth_bytes_per_s)
    return Site(
        kind,
        len(cores),
        chip.dram,
        sum(load) / len(load) * 1e-12,
        (kind.dma.setup_latency_ps + net.hop_latency_ps) * 1e-12,
        float(net.port_bandwidth_bytes_per_s * len(ports)),
        float(net.link_bandwidth_bytes_per_s),
        min(load) * 1e-12,
        float(net.port_bandwidth_bytes_per_s),
        # Dealt tiles are loaded core by core: no two of them over one link.
        wiring_of(net, cores) if limited and kind.dispatch is None else None,
    )


def site_of(chip: Chip, fabric: Fabric, kind: int, cores: tuple[int, ...]) -> Hashed[Site]:
    """The same for the cores of kind number `kind`, made once per fabric."""
    found = fabric.sites.get((kind, cores))
    if found is None:
        found = fabric.sites[kind, cores] = Hashed(make_site(chip, fabric, chip.cores[kind], cores))
    return found
