"""DRAM rows that a mapped operator opens, counted by hand from its tiles."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.pipeline import plan
from sim.program import Kind, Program

ROW, BURST = 8192, 64
"""Of the DDR4 of the chip tiny."""


def opened(program: Program) -> float:
    return float(program.segments[0].ops[0].counts["dram_row_activations"])


def touched(stretch_bytes: int) -> float:
    """Rows that a stretch touches, over all bursts it can start at."""
    starts = np.arange(0, ROW, BURST)
    return float(((starts + max(stretch_bytes, BURST) - 1) // ROW + 1).mean())


def test_a_small_product() -> None:
    """64 x 64 x 64 in 4 x 4 tiles of 16 x 16: four loads of rows (1024 B in one run), four of weights (packed, 1024 B),
    which stay, and 16 stores of 16 runs of 16 B, a row of the matrix (64 B) apart."""
    _, _, program = plan("gemm:64x64x64", "tiny", dtype="int8")
    segment = program.segments[0]
    moved = sorted(zip(segment.kind.tolist(), segment.nbytes.tolist(), strict=True))
    assert [m for m in moved if m[1]] == [(0, 1024)] * 8 + [(1, 256)] * 16
    expected = 8 * touched(1024) + 16 * touched(15 * 64 + 16)
    assert opened(program) == pytest.approx(expected, rel=5e-3)


def test_a_pitch_of_more_than_a_row_opens_a_row_per_run() -> None:
    """Results 16384 wide are stored 32 rows of 8 columns at a time: every run lies in a row of its own."""
    narrow, wide = (plan(f"gemm:64x{columns}x64", "tiny", dtype="int8")[2] for columns in (64, 16384))
    tile = wide.segments[0].ops[0].mapping["tile"]
    stores = int((wide.segments[0].kind == Kind.STORE).sum())
    assert tile["column"] < 16384
    runs = stores * tile["row"]
    assert opened(wide) > 0.9 * runs
    assert opened(narrow) < 64


def test_they_are_paid_for() -> None:
    _, _, program = plan("gemm:512x512x512", "tiny", dtype="int8")
    report = sim.simulate("gemm:512x512x512", "tiny", dtype="int8")
    joules = report.energy.set_index("component")["energy_j"]
    assert joules["dram_activate"] == pytest.approx(opened(program) * 7272e-12)
    assert opened(program) > report["dram_read_bytes"] / ROW
