"""Action counts of a mapped nest: what its tasks do to arrays, accumulators, scratchpads and lanes.

Counts are sums over all tiles of all cores. Transfers by DMA are not in here: they follow from the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.cost.element_passes import body_passes
from sim.cost.estimate import operand_bits
from sim.cost.products import known_drain
from sim.cost.row_stationary import RowTiles, row_actions
from sim.cost.work import accumulator_bytes, scale_bits, unpack_cost
from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind, Dispatch
from sim.hw.row_stationary import RowMapping

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def array_actions(
    nest: Nest, macs: int, sums: Int64, results: int, kind: CoreKind, parts: int
) -> dict[str, float]:
    """Counts of a contraction on arrays. `sums` are what all of its tiles amount to (sim.cost.products); `results`
    elements leave the accumulators, each the sum of `parts` parts of as many cores.

    `macs` are the useful ones (those of the tiles, without padding of the array), `array_peak_macs` what the
    arrays could have done in the cycles they were held.
    """
    array = kind.array
    assert array is not None
    dtype = nest.operands[0].tensor.dtype
    bits = operand_bits(nest)
    held, left, right, reads, writes, elements, weights = sums.tolist()
    one = accumulator_bytes(dtype)
    out_bytes = results * DTYPE_BITS[nest.out.tensor.dtype] / 8
    extra_bytes = epilogue_bytes(nest, results)
    cycles = float(held)
    found = {
        "macs": float(macs),
        "array_cycles": cycles,
        "array_peak_macs": cycles * array.pe_count * float(array.rate(dtype)),
        "sram_read_bytes": float(left * bits[0] + right * bits[1]) / 8 + extra_bytes,
        "sram_write_bytes": out_bytes,
        "accumulator_read_bytes": float(reads + results * parts) * one,
        "accumulator_write_bytes": float(writes) * one,
    }
    if kind.dispatch is not None and kind.dispatch.instruction is not None:
        fetched, stored = _register_bytes(kind.dispatch, kind.dispatch.instruction, macs, bits, one)
        found["accumulator_read_bytes"] = fetched + results * parts * one
        found["accumulator_write_bytes"] = stored
        if kind.dispatch.operands == "registers":
            found["accumulator_write_bytes"] += float(left * bits[0] + right * bits[1]) / 8
    if parts > 1:
        # A core that only sends copies its sums to its scratchpad; every addition reads a message and writes a part,
        # the first of a core reads its accumulator, later ones (and the drain) the part.
        adds, copies = parts - 1, (parts + 1) // 2
        moved = float(results * (adds + copies) * one)
        found["sram_write_bytes"] += moved
        found["sram_read_bytes"] += moved
        found["vector_add"] = float(results * adds)
        found["vector_copy"] = float(results * copies)
    if dtype in array.converted and (unpacked := float(elements) * kind.vector.conversion(dtype).unpack):
        found["vector_convert"] = unpacked
    if nest.unpack:
        found["sram_read_bytes"] += weights * scale_bits(nest) / 8
        found = _with_passes(found, nest.unpack, weights if unpack_cost(nest, kind) else 0)
    return _with_passes(found, known_drain(nest, kind)[0], results)


def _register_bytes(
    dispatch: Dispatch, instruction: tuple[int, int, int], macs: int, bits: tuple[int, int], sum_bytes: int
) -> tuple[float, float]:
    """(read, written) bytes of a GPU's register files by its matrix instructions: each reads and writes the sums of its
    rows and columns, and reads its operands where these are in registers. A depth of 16 in 16 bits is one of 32 in 8.

    mma.m16n8k16 in fp16: 2,048 products read 512 B of sums, 768 B of operands and write 512 B.
    """
    rows, columns, depth = instruction
    sums = macs * sum_bytes / (depth * 16 / max(bits))
    if dispatch.operands == "scratchpad":
        return sums, sums
    return sums + macs * (bits[0] / columns + bits[1] / rows) / 8, sums


def row_stationary_actions(
    nest: Nest, macs: int, mapping: RowMapping, tiles: RowTiles, results: int, kind: CoreKind
) -> dict[str, float]:
    """Counts of a contraction on row-stationary arrays, whose results leave through the vector unit."""
    density = nest.operands[0].tensor.density
    found = row_actions(mapping, tiles, macs, epilogue_bytes(nest, results), kind, density)
    return _with_passes(found, known_drain(nest, kind)[0], results)


def vector_actions(
    nest: Nest, macs: int, results: int, read_bytes: int, kind: CoreKind
) -> dict[str, float]:
    """Counts of a nest on the vector unit: `results` elements made from `read_bytes` of operands."""
    found = {
        "macs": float(macs),
        "sram_read_bytes": float(read_bytes),
        "sram_write_bytes": results * DTYPE_BITS[nest.out.tensor.dtype] / 8,
    }
    return _with_passes(found, body_passes(nest, kind), results)


def _with_passes(found: dict[str, float], passes: Mapping[str, float], results: int) -> dict[str, float]:
    for name, count in passes.items():
        key = f"vector_{name}"
        found[key] = found.get(key, 0.0) + count * results
    return found


def epilogue_bytes(nest: Nest, results: int) -> float:
    """What the drain reads beside the sums for so many elements of the result."""
    return results * nest.drain_bits / 8
