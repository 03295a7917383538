"""Operands that are loaded once and stay: every byte crosses the DRAM once, nobody waits longer, nothing is overrun."""

import itertools
from dataclasses import replace

import pytest

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.mapping import plan as planning
from sim.mapping.buffers import buffers, ring_of
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.residency import Residency
from sim.mapping.staying import with_staying
from sim.mapping.step import Step
from sim.pipeline import plan


def steps_of(graph: Graph, chip: Chip, mode: str = "auto") -> tuple[Step, ...]:
    names = tuple(op.name for op in graph.ops)
    return planning.make_plan(graph, chip, Fabric(chip), Assignment(chip, mode, names=names)).steps


def product(m: int, n: int, k: int, layers: int = 1) -> Graph:
    b = GraphBuilder("product", "int8")
    x = b.input("x", (m, k))
    for layer in range(layers):
        x = b.linear(x, n if layer == layers - 1 else k, bias=False, name=f"l{layer}")
    return b.build([x])


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays: neither does the search know of it, nor are operands kept afterwards."""
    monkeypatch.setattr(planning, "with_staying", lambda chip, fabric, steps, residency: tuple(steps))
    for module in ("sim.cost.nest_tables", "sim.mapping.stay_best"):
        monkeypatch.setattr(f"{module}.may_stay", lambda nest: False)
    searched = planning.search
    # Tables of nests and searches are remembered: these are of other nests, and forgotten.
    monkeypatch.setattr(planning, "search", lambda nest, *how: searched(replace(nest), *how))
    monkeypatch.setattr("sim.pipeline._SEARCHES", {})


@pytest.mark.parametrize(("chip", "size"), [("lepton_s", 512), ("gemmini_16", 256), ("tiny", 64), ("nvdla_large", 512)])
def test_a_product_that_fits_is_loaded_once(chip: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both matrices once, where the tiles of the search load one of them again and again; and no later for it."""
    report = sim.simulate(f"gemm:{size}x{size}x{size}", chip, dtype="int8")
    now = report.summary.iloc[0]
    assert set(report.ops["staying"][0].split("; ")) <= {"a", "b"}
    assert now.dram_read_bytes == 2 * size * size
    assert now.dram_write_bytes == size * size
    without(monkeypatch)
    before = sim.simulate(f"gemm:{size}x{size}x{size}", chip, dtype="int8").summary.iloc[0]
    assert before.dram_read_bytes >= 1.5 * now.dram_read_bytes
    assert now.latency_s <= before.latency_s
    assert now.energy_j < before.energy_j


@pytest.mark.parametrize("kib", [96, 64, 56, 48, 40, 32, 24, 16])
def test_what_stays_has_a_slot_for_every_tile_and_fits(kib: int) -> None:
    """Whatever the room: what stays has a slot for each of its tiles, buffers fit side by side, values are right."""
    graph, chip = product(128, 96, 128, layers=2), load_chip("gemmini_16", {"core.sram.size": f"{kib} KiB"})
    for step in steps_of(graph, chip):
        found = {buffer.name: buffer for buffer in buffers(step)}
        assert sum(b.slots * b.size_bytes for b in found.values()) <= kib * 1024
        for index, operand in enumerate(step.nest.operands):
            if step.tiling.stays(index):
                assert found[f"in{index}"].slots == ring_of(operand, step.tiling) > 1
    assert sim.verify_values(graph, chip).passed


def test_less_room_keeps_less() -> None:
    """All of a product's operands stay in a large scratchpad, none in one that the tiles fill; the loads say so."""
    read = {}
    for kib in (512, 64):
        chip = load_chip("gemmini_16", {"core.sram.size": f"{kib} KiB"})
        read[kib] = sim.simulate("gemm:256x256x256", chip, dtype="int8").summary.iloc[0].dram_read_bytes
    assert read[512] == 2 * 256 * 256
    assert read[64] > read[512]


@pytest.mark.parametrize("kib", [768, 512, 336, 304, 272, 256, 240])
def test_neighbours_keep_their_room(kib: int) -> None:
    """Buffers of two operators one after the other never need the same memory because an operand stays."""
    chip = load_chip("lepton_s", {"core.sram.size": f"{kib} KiB"})
    steps = steps_of(product(512, 512, 512, layers=4), chip)
    own = [sum(b.slots * b.size_bytes for b in buffers(step)) for step in steps]
    assert any(step.tiling.staying for step in steps) or kib < 768
    assert all(a + b <= kib * 1024 for a, b in itertools.pairwise(own))


def one_step(monkeypatch: pytest.MonkeyPatch) -> tuple[Chip, Step]:
    """A product of which an operand could stay, as the search leaves it."""
    chip = load_chip("lepton_s")
    with monkeypatch.context() as context:
        without(context)
        (step,) = steps_of(product(512, 512, 512), chip)
    return chip, step


def test_two_in_a_row_share_what_both_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone an operand stays where it just fits beside its step's buffers; of two steps, where it fits twice."""
    chip, step = one_step(monkeypatch)
    own = sum(b.slots * b.size_bytes for b in buffers(step))
    (alone,) = with_staying(chip, Fabric(chip), (step,), Residency((1 << 30,)))
    more = sum(b.slots * b.size_bytes for b in buffers(alone)) - own
    assert more > 0
    for steps, size in ((1, own + more), (2, 2 * (own + more))):
        for short in (False, True):
            tight = load_chip("lepton_s", {"core.sram.size": f"{size - short * own // 2} B"})
            found = with_staying(tight, Fabric(tight), (step,) * steps, Residency((size,)))
            assert [any(one.tiling.staying) for one in found] == [not short] * steps
    single = replace(step, tiling=replace(step.tiling, slots=1))  # needs its room, and keeps nothing
    beside = sum(b.slots * b.size_bytes for b in buffers(single))
    for short in (False, True):
        tight = load_chip("lepton_s", {"core.sram.size": f"{own + beside + 2 * more - short * beside // 2} B"})
        first, _ = with_staying(tight, Fabric(tight), (step, single), Residency((1 << 30,)))
        assert any(first.tiling.staying) == (not short)


def test_results_that_are_kept_have_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    chip, step = one_step(monkeypatch)
    capacity = chip.cores[0].sram.size_bytes
    own = sum(b.slots * b.size_bytes for b in buffers(step))
    for held, kept in ((0, True), (capacity - own, False)):
        ledger = Residency((capacity,))
        ledger.hold(0, 0, 0, held)
        (found,) = with_staying(chip, Fabric(chip), (step,), ledger)
        assert any(found.tiling.staying) == kept


def test_the_closed_form_knows_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are those of the events, and its time is near theirs; without what stays both would be more."""
    chip = load_chip("lepton_s")
    graph, _, _ = plan("gemm:512x512x512", chip, dtype="int8")
    (now,) = steps_of(graph, chip)
    found = sim.simulate("gemm:512x512x512", chip, dtype="int8").summary.iloc[0]
    assert now.tiling.sram_bytes == sum(b.slots * b.size_bytes for b in buffers(now))
    assert now.tiling.dram_bytes == found.dram_read_bytes + found.dram_write_bytes == 3 * 512**2
    assert now.tiling.latency_s == pytest.approx(found.latency_s, rel=0.1)
    without(monkeypatch)
    (before,) = steps_of(graph, chip)
    assert now.tiling.dram_bytes < before.tiling.dram_bytes
    assert now.tiling.latency_s <= before.tiling.latency_s


def test_dealt_tiles_and_single_slots_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's blocks share nothing but the cache, and a chip with one slot has one."""
    a100 = load_chip("a100")
    graph, _, _ = plan("gemm:512x512x512", a100, dtype="fp16")
    assert not any(step.tiling.staying for step in steps_of(graph, a100))
    chip, step = one_step(monkeypatch)
    single = replace(step, tiling=replace(step.tiling, slots=1))
    assert with_staying(chip, Fabric(chip), (single,), Residency((1 << 30,))) == (single,)
