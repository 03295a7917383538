"""Copies from the DRAM: the loads of an operator alone."""

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.hw.dram import pattern_efficiency
from sim.mapping.mapper import map_graph
from sim.program import Kind
from sim.validate.copies import loads_only
from sim.validate.measurement import Measurement
from sim.validate.operator_graph import build_graph, work
from sim.validate.prediction import predict


def copied(*shape: int) -> Measurement:
    return Measurement("tpu_v4", "hbm_to_onchip_copy", shape, "fp16", 1e-6, "cold_single_run", "", "")


def test_a_copy_takes_its_bytes_at_the_rate_of_the_dram() -> None:
    """8 MiB and 32 MiB on a TPU v4: 24 MiB more take what they take at the efficiency of long loads, to the 2 % that
    weights are rounded to; each takes less than an operator that writes them back."""
    chip = load_chip("tpu_v4")
    small, large = predict([copied(2048, 2048), copied(4096, 4096)], chip)
    assert (small.row.family, small.prediction.bound_by) == ("copy", "dram")
    rate = float(pattern_efficiency(chip.dram, 1 << 20, 1 << 20)) * chip.calibration.dram_efficiency * 1.2e12
    more_s = large.prediction.latency_s - small.prediction.latency_s
    assert more_s == pytest.approx(24 * 2**20 / rate, rel=0.025)
    assert small.prediction.latency_s > small.prediction.launch_s + small.prediction.bound_s
    assert work(small.row).nbytes == 8 * 2**20
    relu = Measurement("tpu_v4", "relu", (4096, 4096), "fp16", 1e-6, "", "", "")
    (there_and_back,) = predict([relu], chip)
    assert large.prediction.latency_s < 0.6 * there_and_back.prediction.latency_s


def test_only_launches_and_loads_are_left_with_what_they_waited_for_of_each_other() -> None:
    chip = load_chip("tpu_v4")
    program = map_graph(build_graph(copied(4096, 4096)), chip)
    left = loads_only(program)
    left.validate()
    (before,), (after,) = program.segments, left.segments
    assert set(after.kind.tolist()) == {Kind.LOAD, Kind.BARRIER}
    assert after.nbytes.sum() == before.nbytes[before.kind == Kind.LOAD].sum() == 2 * 4096 * 4096
    # Every load still waits for the launch, directly or behind one that does.
    assert np.diff(after.pptr)[after.kind == Kind.LOAD].max() >= 1
