"""Scratchpad energy by size and width against CACTI 7 (tests/against/data/cacti_sram.csv).

The points are our own runs of HewlettPackard/cacti 7: RAM, one read-write port, one bank, no ECC, 350 K, optimised
for energy x delay^2, itrs-hp and itrs-lop cells, 22 to 65 nm. CACTI's absolute energies lie below the published points
that the technology files hold, so what is compared is the dependence on size and width.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sim.hw.technology import REFERENCE_BITS, load_technology

DATA = Path(__file__).parent / "data" / "cacti_sram.csv"


def runs() -> dict[tuple[str, str], np.ndarray]:
    """Rows (KiB, bits, pJ/B) by node and kind of cell."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in csv.DictReader(DATA.read_text().splitlines()):
        values = [float(row[name]) for name in ("size_kib", "width_bits", "read_pj_per_byte")]
        found.setdefault((row["node_nm"], row["cells"]), []).append(values)
    return {key: np.array(rows) for key, rows in found.items()}


def errors(k: float) -> np.ndarray:
    """Relative errors of size^b x (1 + k x 64 / width) with b and the scale fitted to each node and cell."""
    found = []
    for rows in runs().values():
        logs = np.log(rows[:, 2]) - np.log1p(k * REFERENCE_BITS / rows[:, 1])
        slope, offset = np.polyfit(np.log(rows[:, 0]), logs, 1)
        found.append(np.expm1(logs - slope * np.log(rows[:, 0]) - offset))
    return np.abs(np.concatenate(found))


def test_width_follows_cacti_within_the_error_that_the_technology_files_state() -> None:
    tech = load_technology("n7")
    k = tech.sram_width_overhead.value
    ours = errors(k)
    assert len(ours) == 104
    assert "mean error 9 %, largest 38 %" in tech.sram_width_overhead.source
    assert ours.mean() == pytest.approx(0.09, abs=0.005)
    assert ours.max() == pytest.approx(0.38, abs=0.005)
    # Without the width it would be nearly twice as far off.
    assert errors(0.0).mean() > 1.7 * ours.mean()


def test_one_size_at_two_widths() -> None:
    # CACTI's own step from 32 KiB at 64 bit to 64 KiB at 256 bit, twice the size: cheaper per byte, as here.
    for rows in runs().values():
        narrow = rows[(rows[:, 0] == 32) & (rows[:, 1] == 64), 2]
        wide = rows[(rows[:, 0] == 64) & (rows[:, 1] == 256), 2]
        assert wide < 1.02 * narrow
    read = load_technology("n28").sram_read_energy_j_per_byte
    assert read(64 << 10, 256) < read(32 << 10, 64)
