"""What an operator takes at the very least, however it is mapped: for plans that are given up once they cannot win."""

from __future__ import annotations

from collections.abc import Sequence

from sim.graph.nest import Nest
from sim.hw.chip import Chip

ROUNDING = 1 - 1e-9
"""The estimates add up in another order."""


def least_seconds(nest: Nest, chip: Chip) -> float:
    """No estimate of a nest on any of the chip's cores is below: its products on all multipliers (or all lanes) at
    their peak, and its weights, which are never in a scratchpad before, at the peak of the DRAM."""
    weights_bytes = sum(o.tensor.size_bytes for o in nest.operands if o.tensor.role == "weight" and not o.gathered)
    peak = _peak_macs_per_s(nest, chip) if nest.macs else 0.0
    computing_s = nest.macs / peak if peak else 0.0
    return max(computing_s, weights_bytes / chip.dram.bandwidth_bytes_per_s) * ROUNDING


def _peak_macs_per_s(nest: Nest, chip: Chip) -> float:
    dtype, total = nest.operands[0].tensor.dtype, 0.0
    for kind in chip.cores:
        lanes = kind.vector.lanes / max(1, kind.vector.passes_of("multiply_add"))
        array = kind.array is not None and dtype in kind.array.rates
        total += kind.count * max(kind.peak_macs_per_s(dtype) if array else 0.0, lanes * kind.clock_hz)
    return total


def least_from(every: Sequence[Sequence[Nest]], chip: Chip, repeats: Sequence[int]) -> list[float]:
    """For every operator, by its nests and how often it runs: what it and all after it take at least, in seconds; at
    last 0."""
    found = [0.0]
    for nests, repeat in zip(reversed(every), reversed(repeats), strict=True):
        mine = sum(least_seconds(nest, chip) for nest in nests) * repeat if repeat else 0.0
        found.append(found[-1] + mine)
    return found[::-1]
