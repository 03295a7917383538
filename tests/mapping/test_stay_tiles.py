"""Tiles chosen together with the operand that stays: the least traffic of a product by hand, and rings of tiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.mapping import plan as planning
from sim.mapping.buffers import boxes_of, buffers, ring_of
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.step import Step

SIDE = 4  # of the array, so that tiles are cut at its multiples


def product(m: int, n: int, k: int) -> Graph:
    b = GraphBuilder("product", "int8")
    return b.build([b.linear(b.input("x", (m, k)), n, bias=False)])


def slow_memory(kib: float, sums: int) -> Chip:
    """One core that waits for its memory whatever it computes, and has its transfers for nothing."""
    return load_chip("gemmini_16").replace_many(
        {
            "core.array.rows": SIDE,
            "core.array.cols": SIDE,
            "core.vector.lanes": 1,
            "core.sram.size": f"{int(kib * 1024)} B",
            "core.accumulator.size": f"{sums * 4} B",
            "core.dma.bandwidth": "0.07 GB/s",
            "core.dma.setup_latency": "0 ns",
            "dram.latency": "1 ns",
        }
    )


def only_step(graph: Graph, chip: Chip) -> Step:
    (step,) = planning.make_plan(graph, chip, Fabric(chip), Assignment(chip)).steps
    return step


def tiles(size: int, side: int) -> list[tuple[int, int]]:
    """(parts, indices of the largest) of all ways to cut a loop into whole sides of the array as evenly as they go."""
    sides = size // side
    return [(parts, -(-sides // parts) * side) for parts in range(1, sides + 1)]


def least_bytes(m: int, n: int, k: int, room_bytes: int, sums: int) -> int:
    """Fewest bytes of both matrices that any tiles, loop order and at most one matrix that stays load, each tile
    counted as large as the largest, if buffers take at most `room_bytes` and a tile of the result `sums` elements."""
    found = []
    for (down, rows), (across, columns) in itertools.product(tiles(m, 1), tiles(n, SIDE)):
        if rows * columns > sums or rows < SIDE:
            continue  # tiles of a few rows are tried where no other fits
        for deep, inner in tiles(k, SIDE):
            left, right, out = rows * inner, inner * columns, rows * columns
            slots_out = min(2, down * across)
            for rows_outside in (True, False):
                outer, inside = (left, right) if rows_outside else (right, left)
                one, turns = (down, across) if rows_outside else (across, down)
                # (loads, slots) of a matrix: whenever loops turn, or once, with a slot for all that is needed again.
                of_outer = [(one * deep * (turns if deep > 1 else 1), 2), (one * deep, max(2, deep))]
                again = turns * deep
                of_inner = [(one * again if again > 1 else 1, 2), (again, max(2, again))]
                for a, b in ((0, 0), (0, 1), (1, 0)):
                    (loads_a, slots_a), (loads_b, slots_b) = of_outer[a], of_inner[b]
                    slots = min(slots_a, loads_a), min(slots_b, loads_b), slots_out
                    sizes = outer, inside, out
                    held = sum(count * -(-size // 64) * 64 for count, size in zip(slots, sizes, strict=True))
                    if held <= room_bytes:
                        found.append(loads_a * outer + loads_b * inside)
    return min(found)


@pytest.mark.parametrize("sizes", [(64, 64, 64), (32, 128, 64), (128, 32, 64), (16, 64, 256)])
@pytest.mark.parametrize("kib", [2, 4, 6, 8, 12, 16, 32])
@pytest.mark.parametrize("sums", [64, 1024])
def test_a_plan_loads_the_least_there_is(
    sizes: tuple[int, int, int], kib: int, sums: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only bytes count, the search finds what trying all finds, by a formula of its own; the events move them."""
    monkeypatch.setattr(planning, "with_staying", lambda chip, fabric, steps, residency: tuple(steps))
    graph, chip = product(*sizes), slow_memory(kib, sums)
    room = int(kib * 1024 * 0.5)
    step = only_step(graph, chip)
    stored = np.prod(step.tiling.tile(step.nest)[:2]) * np.prod(step.tiling.steps[:2])
    loaded = step.tiling.dram_bytes - stored
    assert loaded == least_bytes(*sizes, room, sums)
    assert sum(b.slots * b.size_bytes for b in buffers(step)) <= room
    assert sim.simulate(graph, chip).summary.iloc[0].dram_read_bytes <= loaded


def test_by_hand_a_panel_stays() -> None:
    """32 rows of 64 stay in 2 KiB while all columns pass, twice; without room for that nothing is loaded once."""
    assert least_bytes(64, 64, 64, 4096, 128) == 64 * 64 + 2 * 64 * 64
    assert least_bytes(64, 64, 64, 1 << 20, 128) == 2 * 64 * 64
    assert least_bytes(64, 64, 64, 512, 128) > 4 * 64 * 64


def test_a_ring_is_what_is_needed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a tile of results stay in as many slots as their sum has tiles, far fewer than the whole matrix has;
    every value is right and every tile comes once."""
    monkeypatch.setattr(planning, "with_staying", lambda chip, fabric, steps, residency: tuple(steps))
    graph, chip = product(512, 512, 512), load_chip("gemmini_16")
    step = only_step(graph, chip)
    (index,) = np.flatnonzero(step.tiling.staying)
    operand = step.nest.operands[index]
    slots = next(b.slots for b in buffers(step) if b.name == f"in{index}")
    assert 1 < slots == ring_of(operand, step.tiling) < boxes_of(operand, step.tiling)
    report, (down, across, _) = sim.simulate(graph, chip), step.tiling.steps
    again = down if index == 0 else across  # of the other matrix
    assert report.summary.iloc[0].dram_read_bytes == (1 + again) * 512 * 512
    assert sim.verify_values(graph, chip).passed


def test_a_ring_is_filled_again_when_its_tile_is_used_up_for_the_last_time() -> None:
    """On one core of little memory the values are right for any product; a slot filled too early would spoil them."""
    for sizes in ((48, 80, 96), (40, 24, 200), (100, 36, 64)):
        for kib in (3, 5, 9):
            graph, chip = product(*sizes), slow_memory(kib, 256)
            assert sim.verify_values(graph, chip).passed, (sizes, kib)
