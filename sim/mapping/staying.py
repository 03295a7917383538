"""More operands that are loaded once and stay, where tiles need them again and there is room.

The search cuts a nest into tiles for two slots per operand, but for one that stays, within its share of the
scratchpad (sim/cost/scan.py). A loop outside of those that move another operand loads it anew each time it turns. Where
a step's scratchpads have room for every tile that is needed again, each is loaded when it is first needed and stays:
the same tiles at the same times, with fewer loads. Room is what the buffers of the step and of its neighbours and kept
results leave, half of it where there are neighbours, so that nobody waits for memory who did not before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sim.graph.nest import Operand
from sim.hw.chip import Chip
from sim.mapping.buffers import boxes_of, buffers, ring_of
from sim.mapping.fabric import Fabric
from sim.mapping.memo import Recent
from sim.mapping.residency import Residency
from sim.mapping.search import Tiling, estimate_of
from sim.mapping.sites import site_of
from sim.mapping.step import Step

STAYING: Recent[object, Tiling] = Recent(1 << 12)
"""Tilings with operands that stay, by everything their estimates depend on."""


def returns(tiling: Tiling, operand: Operand) -> bool:
    """Do the loops come back to tiles of the operand: does one that moves it turn inside of one that does not?"""
    return ring_of(operand, tiling) > 1


def with_staying(chip: Chip, fabric: Fabric, steps: Sequence[Step], residency: Residency) -> tuple[Step, ...]:
    """The steps, their operands loaded once where there is room, those that save most bytes first."""
    own = [sum(b.slots * b.size_bytes for b in buffers(step)) for step in steps]
    found = []
    for position, step in enumerate(steps):
        wanted = _wanted(step, chip.cores[step.kind].sram.rings) if _may_keep(step) else []
        if wanted:
            near = [at for at in (position - 1, position + 1) if 0 <= at < len(steps) and steps[at].kind == step.kind]
            free = chip.cores[step.kind].sram.size_bytes - residency.held_bytes(position, step.kind) - own[position]
            room = (free - max((own[at] for at in near), default=0)) // (2 if near else 1)
            tiles = chip.cores[step.kind].sram.tiles_bytes
            room = min(room, tiles - own[position]) if tiles else room
            staying = [step.tiling.stays(index) for index in range(len(step.nest.operands))]
            for _, need, index in wanted:
                staying[index] = need <= room
                room -= need if staying[index] else 0
            if sum(staying) > sum(step.tiling.staying):
                step = _kept(chip, fabric, step, tuple(staying))
        found.append(step)
    return tuple(found)


def _may_keep(step: Step) -> bool:
    """Dealt tiles and rows have buffers of their own, a single slot is all that a chip with one has, and neither rows
    that indices name nor what comes from other chips is known before."""
    tiling, nest = step.tiling, step.nest
    if tiling.deal is not None or tiling.rows is not None or tiling.slots == 1 or nest.chips > 1:
        return False
    return not any(operand.gathered for operand in nest.operands)


def _wanted(step: Step, rings: bool) -> list[tuple[int, int, int]]:
    """(minus the bytes that a core saves, bytes that it needs beyond its slots, number) of the operands that are loaded
    more than once, those that save most first; without `rings` room for the whole operand is needed."""
    tiling, found = step.tiling, []
    sizes = {buffer.name: buffer for buffer in buffers(step)}
    for index, operand in enumerate(step.nest.operands):
        buffer = sizes.get(f"in{index}")
        if buffer is not None and not tiling.stays(index) and returns(tiling, operand):
            boxes = boxes_of(operand, tiling)
            last = max(at for at, dim in enumerate(tiling.order) if dim in operand.dims and tiling.steps[dim] > 1)
            fills = math.prod(tiling.steps[dim] for dim in tiling.order[: last + 1])
            saved = (fills - boxes) * buffer.size_bytes
            need = max(0, (ring_of(operand, tiling) if rings else boxes) - buffer.slots) * buffer.size_bytes
            found.append((-saved, need, index))
    return sorted(found)


def _kept(chip: Chip, fabric: Fabric, step: Step, staying: tuple[bool, ...]) -> Step:
    """The step whose operands stay, with the closed form's difference."""
    site = site_of(chip, fabric, step.kind, step.cores)
    key = step.signature, site, step.tiling, step.resident, step.store, staying
    tiling = STAYING.get(key)
    if tiling is None:
        tiling = replace(step.tiling, staying=staying)
        before, after = (
            estimate_of(step.nest, site.value, one, step.resident, stored=step.store) for one in (step.tiling, tiling)
        )
        tiling = STAYING[key] = replace(
            tiling,
            latency_s=tiling.latency_s + float(after.latency_s[0] - before.latency_s[0]),
            dram_bytes=tiling.dram_bytes + float(after.dram_bytes[0] - before.dram_bytes[0]),
            sram_bytes=tiling.sram_bytes + int(after.sram_bytes[0] - before.sram_bytes[0]),
        )
    return replace(step, tiling=tiling)
