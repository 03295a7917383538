"""Candidate tilings with each operand that can stay: NumPy's way of what sim/cost/scan.py does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import Bool, Cuts, Estimate, Site, estimate
from sim.cost.fills import ring
from sim.cost.nest_tables import may_stay
from sim.graph.nest import Nest

Int64 = npt.NDArray[np.int64]


def stay_estimates(
    nest: Nest, site: Site, cuts: Cuts, *, unit: str, dataflow: str, resident: Bool
) -> Iterator[tuple[int, Int64, Cuts, Estimate]]:
    """(operand that stays, -1 for none; numbers of the candidates that this changes; these; their estimates)."""
    found = estimate(nest, site, cuts, unit=unit, dataflow=dataflow, resident=resident)
    yield -1, np.arange(len(cuts.splits)), cuts, found
    if site.kind.sram.tile_slots == 1 or not site.kind.sram.rings or not may_stay(nest):
        return
    for index, operand in enumerate(nest.operands):
        rows = np.flatnonzero(~resident[:, index] & (ring(nest, operand, cuts.steps, cuts.columns_first) > 1))
        if not len(rows):
            continue
        tile = tuple(size[rows] for size in cuts.tile)
        some = Cuts(cuts.splits[rows], cuts.steps[rows], cuts.columns_first[rows], tile)
        staying = [other == index for other in range(len(nest.operands))]
        here = resident[rows]
        cost = estimate(nest, site, some, unit=unit, dataflow=dataflow, resident=here, staying=staying)
        yield index, rows, some, cost
