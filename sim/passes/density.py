"""The share of activations that are not zero, for chips that make use of zeros."""

from __future__ import annotations

from collections.abc import Mapping

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.graph.graph import Graph
from sim.hw.chip import Chip


def with_density(
    parts: list[tuple[Graph, int]], density: float | Mapping[str, float], chip: Chip
) -> list[tuple[Graph, int]]:
    """The parts with the density of their activations. Raises InputError where it is none, or changes nothing."""
    by_name = dict(density) if isinstance(density, Mapping) else {"": density}
    for name, value in by_name.items():
        if not 0 < value <= 1:
            of = f" of {name}" if name else ""
            raise InputError(f"density{of}: found {value}; expected a share above 0 and at most 1")
    known = {n for part, _ in parts for n, t in part.tensors.items() if t.role in ("input", "activation")}
    for name in by_name.keys() - known - {""}:
        hint = did_you_mean(name, known) or f"the first are {', '.join(sorted(known)[:6])}"
        raise InputError(Diagnostic(f"density: no input or activation is called '{name}'", hint=hint))
    if not chip.uses_density:
        raise InputError(
            Diagnostic(
                f"density: chip '{chip.name}' makes no use of zeros, so it would change nothing",
                hint="array.row_stationary.zero_gating and dma.run_length_coding do",
            )
        )
    return [(part.with_density(by_name.get("", 1.0), by_name), count) for part, count in parts]
