"""What an operator takes at the very least, however it is mapped: for plans that are given up once they cannot win."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.graph.nest import Nest
from sim.hw.chip import Chip
from sim.mapping.memo import by_identity

ROUNDING = 1 - 1e-9
"""The estimates add up in another order."""


def least_seconds(nest: Nest, chip: Chip, peaks: dict[str, float] | None = None) -> float:
    """No estimate of a nest on any of the chip's cores is below: its products on all multipliers (or all lanes) at
    their peak, and its weights, which are never in a scratchpad before, at the peak of the DRAM. `peaks` keeps the
    former by format."""
    peaks = {} if peaks is None else peaks
    dtype, computing_s = nest.operands[0].tensor.dtype, 0.0
    if nest.macs:
        if dtype not in peaks:
            peaks[dtype] = _peak_macs_per_s(dtype, chip)
        computing_s = nest.macs / peaks[dtype] if peaks[dtype] else 0.0
    return max(computing_s, _weights_bytes(nest) / chip.dram.bandwidth_bytes_per_s) * ROUNDING


@by_identity(1 << 14)
def _weights_bytes(nest: Nest) -> int:
    return sum(o.tensor.size_bytes for o in nest.operands if o.tensor.role == "weight" and not o.gathered)


def _peak_macs_per_s(dtype: str, chip: Chip) -> float:
    total = 0.0
    for kind in chip.cores:
        lanes = kind.vector.lanes / max(1, kind.vector.passes_of("multiply_add"))
        array = kind.array is not None and dtype in kind.array.rates
        total += kind.count * max(kind.peak_macs_per_s(dtype) if array else 0.0, lanes * kind.clock_hz)
    return total


def least_from(
    every: Sequence[Sequence[Nest]],
    chip: Chip,
    repeats: Sequence[int],
    floor_s: Callable[[int, Nest], float] = lambda *_: 0.0,
) -> list[float]:
    """For every operator, by its nests and how often it runs: what it and all after it take at least, in seconds; at
    last 0. `floor_s` knows of a nest of an operator what is not below its estimate either."""
    found = [0.0]
    peaks: dict[str, float] = {}
    for index in reversed(range(len(every))):
        least = [max(least_seconds(nest, chip, peaks), floor_s(index, nest) * ROUNDING) for nest in every[index]]
        found.append(found[-1] + sum(least) * repeats[index])
    return found[::-1]
