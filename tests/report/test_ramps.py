"""sim/report/ramps.py: work between two instants, by hand."""

from __future__ import annotations

import numpy as np

from sim.report.ramps import Ramps


def test_ramps_add_up() -> None:
    """6 from 0 to 3, 4 from 1 to 5, and 1 that begins and ends at 4, which takes the tick to 5."""
    ramps = Ramps(np.array([0, 1, 4]), np.array([3, 5, 4]))
    at = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 9.0])
    found = ramps.until(np.array([6.0, 4.0, 1.0]), at)
    np.testing.assert_allclose(found, [0, 1, 2, 5, 8, 9, 10, 11, 11], atol=1e-12)
    np.testing.assert_allclose(ramps.until(np.array([0.0, 0.0, 2.0]), at), [0, 0, 0, 0, 0, 0, 1, 2, 2], atol=1e-12)


def test_no_work_is_done_by_nobody() -> None:
    nobody = np.zeros(0, np.int64)
    assert Ramps(nobody, nobody).until(np.zeros(0), np.array([0.0, 1.0])).tolist() == [0.0, 0.0]
