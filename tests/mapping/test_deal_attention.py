"""Attention dealt in blocks of queries: how many keys come by at a time, and how many slots they have."""

from __future__ import annotations

import pytest
from test_fused_attention import attention

import sim
from sim.hw.chip import load_chip


@pytest.mark.parametrize(("chip", "most"), [("a100", 1.2), ("a40", 1.35), ("mi210", 1.42)])
def test_slots_hide_what_all_cores_wait_for_together(chip: str, most: float) -> None:
    """A decode step of 16 requests loads keys and values once and computes next to nothing. All cores load at the same
    time, so with one slot they would all wait and then all compute: 1.44 to 1.55 times what the DRAM takes. Waves that
    are not full, the first tiles and what each core waits for remain."""
    graph, on = attention((16, 32), 1, 1025, 128, dtype="fp16"), load_chip(chip)
    report, closed = sim.simulate(graph, on), sim.simulate(graph, on, fidelity="bound")
    moved = report["dram_read_bytes"] + report["dram_write_bytes"]
    achieved = on.dram.bandwidth_bytes_per_s * on.cores[0].calibration.dram_efficiency
    assert moved == pytest.approx(2 * 16 * 32 * 1026 * 128 * 2, rel=0.01)
    assert report["latency_s"] < most * moved / achieved
    assert closed["latency_s"] == pytest.approx(report["latency_s"], rel=0.03)
