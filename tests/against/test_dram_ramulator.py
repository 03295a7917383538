"""Achieved bandwidth and read latency of our channel model against cycle-level runs of Ramulator 2.1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.against.ramulator import Run, again, device, errors, runs

RUNS = tuple(runs())
MOST = {"HBM2-2000": 9000, "HBM2-2400": 9000, "HBM3-6400": 12000}
"""Requests of a run in the suite, some refreshes long, where that is more than 4,000; nightly it is all 50,000."""


def shares(some: Sequence[Run], most: int | None) -> tuple[float, float]:
    """(mean absolute error of the bandwidth, share of runs within 10 %)."""
    off = np.abs([errors(run, most)[0] for run in some])
    return float(off.mean()), float((off < 0.1).mean())


def test_the_runs_are_all_here() -> None:
    assert len(RUNS) == 723
    assert len({(run.config, run.mapper, run.pattern) for run in RUNS}) > 200


@pytest.mark.parametrize("config", sorted({run.config for run in RUNS}))
def test_bandwidth_of_every_device_and_pattern(config: str) -> None:
    """Bars: 6 % on average, 10 % on nine of ten. Short runs still carry 1 % or 2 of start-up and of refresh phase."""
    seen: dict[tuple[object, ...], Run] = {}
    for run in RUNS:
        if run.config == config and run.refresh and run.outstanding is None:
            seen.setdefault((run.mapper, run.pattern), run)
    mean, within = shares(list(seen.values())[::3], MOST.get(config, 4000))
    assert mean < 0.03
    assert within >= 0.9


def test_unloaded_latency() -> None:
    """One read in flight, every device and mapper; bar 5 %."""
    some = [run for run in RUNS if run.outstanding == 1 and run.pattern in ("seq_rd", "rand_rd")]
    off = [errors(run, 2000)[1] for run in some[::2]]
    assert len(off) == 26
    assert max(abs(e) for e in off if e is not None) < 0.03


@pytest.mark.parametrize(
    ("config", "mapper", "pattern"),
    [
        ("DDR4-3200", "MOP4CLXOR", "tile_512x64"),
        ("DDR5-4800", "MOP4CLXOR", "seq_wr"),
        ("LPDDR5-6400", "RoBaRaCoCh", "stride512_r"),
    ],
)
def test_whole_runs_to_the_clock(config: str, mapper: str, pattern: str) -> None:
    """Without random addresses nothing is left to chance: 50,000 requests end at the same clock, give or take what
    the drivers do differently at the very end."""
    wanted = (config, mapper, pattern, True, None, 1)
    some = [
        run for run in RUNS
        if (run.config, run.mapper, run.pattern, run.refresh, run.outstanding, run.channels) == wanted
    ]  # fmt: skip
    assert some
    for run in some:
        assert again(run).clocks == pytest.approx(run.clocks, abs=25)


def interval_of(config: str) -> tuple[float, float]:
    """What the device's file says of its runs: their bandwidth over ours, less one."""
    least, most = device(config).bandwidth_error
    return least, most


@pytest.mark.parametrize(
    ("config", "pattern", "mapper", "channels", "end"),
    [
        ("DDR4-2400", "stride65536_r", "MOP4CLXOR", 1, 1),
        ("DDR4-3200", "stride4096_w", "MOP4CLXOR", 2, 1),
        ("HBM2-2000", "copy_line", "RoBaRaCoCh", 1, 0),
    ],
)
def test_the_worst_runs_are_the_ends_of_the_stated_interval(
    config: str, pattern: str, mapper: str, channels: int, end: int
) -> None:
    wanted = (config, pattern, mapper, channels, True, None)
    seen = [
        1 / (1 + errors(run)[0]) - 1
        for run in RUNS
        if (run.config, run.pattern, run.mapper, run.channels, run.refresh, run.outstanding) == wanted
    ]
    assert (max(seen) if end else min(seen)) == pytest.approx(interval_of(config)[end], abs=1e-4)


@pytest.mark.nightly
def test_every_run_lies_in_the_interval_that_reports_state() -> None:
    for config in {run.config for run in RUNS}:
        least, most = interval_of(config)
        for run in (run for run in RUNS if run.config == config):
            assert least <= 1 / (1 + errors(run)[0]) - 1 <= most, run


@pytest.mark.nightly
def test_all_runs_in_full() -> None:
    mean, within = shares(RUNS, None)
    assert mean < 0.01
    assert within > 0.99
    latency = [e for e in (errors(run)[1] for run in RUNS[::5]) if e is not None]
    assert np.mean(np.abs(latency)) < 0.03
