"""Measured operators by the closed form of their plans: milliseconds a row, where events of a large product on
a hundred cores take a minute."""

from __future__ import annotations

import math

from sim.errors import DoesNotFit
from sim.hw.chip import Chip
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.split_sum import adding_launch_ps
from sim.mapping.step import Step, closed_form_s
from sim.passes import default_passes
from sim.units import PS_PER_S
from sim.validate.measured_set import timed_as
from sim.validate.measurement import Measurement
from sim.validate.operator_graph import build_graph


def planned_s(row: Measurement, chip: Chip, fabric: Fabric | None = None) -> float:
    """The operator's time by the closed form of its plan, launches included; NaN where it does not fit."""
    try:
        latency_s, _ = planned(row, chip, fabric)
    except DoesNotFit:
        return float("nan")
    return timed_as(row)[1] * latency_s


def planned(row: Measurement, chip: Chip, fabric: Fabric | None = None) -> tuple[float, tuple[Step, ...]]:
    """(seconds by the closed form with launches, the steps of the plan). Raises DoesNotFit."""
    graph = default_passes(build_graph(row))
    assignment = Assignment(chip, names=tuple(op.name for op in graph.ops))
    plan = make_plan(graph, chip, fabric or Fabric(chip), assignment)
    return closed_form_s(plan.steps, plan.segments) + launches_s(plan.steps, chip), plan.steps


def launches_s(steps: tuple[Step, ...], chip: Chip) -> float:
    """Seconds of the launches of all operators, and of the kernels that add up the parts of their sums."""
    launch_of = chip.calibration.launch_ps
    launched = {s.op: launch_of(1 + len(s.nest.operands), contraction=s.nest.contraction) for s in steps}
    adding = sum(s.tiling.deal is not None and s.tiling.deal.adds for s in steps)
    return (sum(launched.values()) + adding * adding_launch_ps(chip.calibration)) / PS_PER_S


def product_bounds(row: Measurement, chip: Chip, steps: tuple[Step, ...]) -> tuple[float, float, float]:
    """(seconds that the arrays take at their peak, seconds of the DRAM at its own, MACs per DRAM byte) of a product."""
    macs = math.prod(row.shape)
    # Bytes of a plan are weighted by what the DRAM delivers of its peak.
    moved = sum(step.tiling.dram_bytes for step in steps) * chip.calibration.dram_efficiency
    arrays = sum(kind.count * kind.peak_macs_per_s(row.dtype) for kind in chip.cores)
    return macs / arrays, moved / chip.dram.bandwidth_bytes_per_s, macs / moved
