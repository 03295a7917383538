"""The physics of a DRAM channel: each limit alone, against its closed form in the device's own parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.hw.dram import Dram
from sim.hw.dram_channel import simulate_requests
from sim.hw.dram_state import Law
from sim.hw.dram_timing import law

DEVICES = (
    "ddr3_2133", "ddr4_2400", "ddr4_3200", "ddr5_4800", "gddr6", "hbm2", "hbm2_2000", "hbm2e", "hbm3", "lpddr5_6400",
)  # fmt: skip


def dram(device: str, **timing: int) -> Dram:
    overrides = {f"dram.timing.{key}": value for key, value in timing.items()}
    return load_chip("tiny", {"dram.device": device, "dram.channels": 1, **overrides}).dram


def rules(device: str, *, refresh: bool = False, **timing: int) -> Law:
    return law(dram(device, **timing).timing, scheduler="first_ready", refresh=refresh)


def run(
    rules: Law,
    bank: Sequence[int],
    row: Sequence[int],
    write: Sequence[int] | int = 0,
    outstanding: int = 1000,
) -> tuple[int, np.ndarray]:
    count = len(bank)
    writes = np.broadcast_to(np.asarray(write, bool), count)
    return simulate_requests(
        rules, 1, np.zeros(count, np.int64), np.array(bank), np.array(row), writes, outstanding
    )


def slowest(rules: Law, **columns: Sequence[int]) -> float:
    """Clocks per request in the steady state of a repeated pattern."""
    long, short = ({k: list(v) * n for k, v in columns.items()} for n in (400, 200))
    clocks = [run(rules, **part)[0] for part in (long, short)]
    return (clocks[0] - clocks[1]) / (len(long["bank"]) - len(short["bank"]))


@pytest.mark.parametrize("device", DEVICES)
def test_unloaded_read_of_a_closed_bank_and_of_a_bank_with_another_row(device: str) -> None:
    timing = dram(device).timing
    clocks, latency = run(rules(device), [0, 0], [0, 1], outstanding=1)
    # A request is seen at the clock after it came; at odd clocks only where a clock is counted in halves.
    slack = 2 if timing.half_clocks else 1
    synced = 1 if timing.wck_clocks else 0
    closed = timing.unloaded_read_clocks + synced
    assert closed + 1 <= latency[0] <= closed + slack
    restored = max(0, timing.ras_clocks - latency[0])  # the row may not yet have been open for tRAS
    conflict = timing.rp_clocks + timing.rcd_clocks + timing.read_clocks + synced + restored
    assert conflict <= latency[1] <= conflict + 1 + slack
    assert clocks == latency.sum()


@pytest.mark.parametrize("device", ["ddr4_3200", "ddr5_4800", "hbm2", "hbm3"])
def test_hits_in_one_group_go_at_ccd_l_and_in_turn_over_groups_at_the_burst(device: str) -> None:
    timing = dram(device).timing
    assert slowest(rules(device), bank=[0] * 4, row=[0] * 4) == timing.ccd_l_clocks
    over = [group * timing.banks for group in range(timing.groups)]
    assert slowest(rules(device), bank=over, row=[0] * timing.groups) == timing.burst_clocks


def test_writes_in_a_ddr5_group_wait_longer_than_reads() -> None:
    assert slowest(rules("ddr5_4800"), bank=[0] * 4, row=[0] * 4, write=[1] * 4) == 48
    assert slowest(rules("ddr5_4800"), bank=[0, 4] * 2, row=[0] * 4, write=[1] * 4) == 24


@pytest.mark.parametrize(("device", "rc"), [("ddr4_3200", 74), ("hbm2", 57), ("lpddr5_6400", 49)])
def test_row_after_row_in_one_bank_takes_rc(device: str, rc: int) -> None:
    rows = list(range(100))
    for longer in (1, 2):
        clocks, latency = run(rules(device, RC=longer * rc), [0] * 100, rows)
        assert clocks - latency[0] == 99 * longer * rc


def test_four_activates_fill_their_window() -> None:
    count = 800
    banks = [group * 4 + bank for bank in range(4) for group in range(4)] * (count // 16)
    rows = list(range(count))
    for window, per_request in ((34, 34 / 4), (80, 80 / 4), (16, 74 / 16)):  # at last tRC of 16 banks is more
        clocks, latency = run(rules("ddr4_3200", FAW=window), banks, rows)
        assert (clocks - latency[0]) / (count - 1) == pytest.approx(per_request, rel=0.03)


@pytest.mark.parametrize("device", ["ddr4_3200", "ddr5_4800", "hbm2_2000", "lpddr5_6400"])
def test_refresh_takes_its_share(device: str) -> None:
    timing = dram(device).timing
    groups, count = timing.groups, 20_000
    over = [group * timing.banks for group in range(groups)] * (count // groups)
    clocks = {on: run(rules(device, refresh=on), over, [0] * len(over))[0] for on in (False, True)}
    lost = (clocks[True] - clocks[False]) / (clocks[True] // timing.refi_clocks)
    closing = (
        timing.rp_clocks + timing.rcd_clocks + timing.read_clocks
    )  # all rows close before and open again
    assert timing.rfc_clocks < lost < timing.rfc_clocks + 2 * closing


def test_turning_the_bus_around() -> None:
    timing, one_bank = dram("ddr4_3200").timing, {"bank": [0, 0], "row": [0, 0]}
    # One at a time: a write is over when its command goes out, the read waits for the last data and tWTR_L.
    written = timing.cwl_clocks + timing.burst_clocks
    _, latency = run(rules("ddr4_3200"), **one_bank, write=[1, 0], outstanding=1)
    assert latency[1] == written + timing.wtr_l_clocks + timing.read_clocks
    _, latency = run(rules("ddr4_3200"), [0, 4], [0, 0], write=[1, 0], outstanding=1)
    opened = 1 + timing.rcd_clocks + timing.read_clocks
    assert latency[1] == max(opened, written + timing.wtr_s_clocks + timing.read_clocks)


def test_a_written_row_closes_only_after_the_write_recovery() -> None:
    timing = dram("ddr4_3200").timing
    _, latency = run(rules("ddr4_3200"), [0, 0], [0, 1], write=[1, 0], outstanding=1)
    recovered = timing.cwl_clocks + timing.burst_clocks + timing.wr_clocks
    restored = timing.ras_clocks - timing.rcd_clocks
    assert latency[1] == max(recovered, restored) + timing.rp_clocks + timing.rcd_clocks + timing.read_clocks


def test_ranks_in_turn_leave_a_gap_on_the_data_bus() -> None:
    for gap in (2, 6):
        _, latency = run(rules("ddr4_2400", CS=gap), [0, 16], [0, 0])
        assert latency[1] - latency[0] == 4 + gap
    _, latency = run(rules("ddr4_2400", CS=6), [0, 4], [0, 0])
    assert latency[1] - latency[0] == 4


def test_pseudo_channels_double_the_bandwidth() -> None:
    assert slowest(rules("hbm2"), bank=[0, 4, 16, 20], row=[0] * 4) == 1


def test_writes_gather_and_drain() -> None:
    """Reads are not held up by single writes: with few writes in the queue all reads go first."""
    reads, writes = 20, 10
    _, latency = run(rules("ddr4_3200"), [0] * 30, [0] * 30, write=[1] * writes + [0] * reads)
    timing = dram("ddr4_3200").timing
    first = 1 + timing.rcd_clocks + timing.read_clocks
    assert list(latency[writes:]) == [first + timing.ccd_l_clocks * i for i in range(reads)]
    # More than 0.8 of 32 in the queue: they drain down to less than 0.2, and only then the reads begin.
    _, latency = run(rules("ddr4_3200"), [0] * 30, [0] * 30, write=[1] * 26 + [0] * 4)
    assert latency[26] > 19 * timing.ccd_l_clocks + timing.wtr_l_clocks


def test_an_open_row_is_kept_for_older_hits_only_if_the_scheduler_says_so() -> None:
    """tRTP < tCCD_L: a conflicting request closes the row between two hits unless hits go first."""
    timing = dram("ddr4_3200", CCD_L=20, RAS=30).timing
    bank, row = [0] * 5, [0, 0, 0, 1, 0]
    clocks = {}
    for scheduler in ("first_ready", "first_ready_row_hits"):
        clocks[scheduler] = run(law(timing, scheduler=scheduler, refresh=False), bank, row)[0]
    assert clocks["first_ready_row_hits"] < clocks["first_ready"]


@pytest.mark.parametrize(
    ("timing", "message"),
    [
        ({"banks": 3}, "banks: found 3; address bits need a power of two"),
        ({"REFI": 600}, "REFI: found 600; refresh (RFC) would take all the time"),
        ({"BL": 0}, "BL: found 0; a burst takes at least one clock"),
        ({"CLX": 3}, "there is no 'CLX'; did you mean 'CL'"),
    ],
)
def test_impossible_timings_are_refused(timing: dict[str, int], message: str) -> None:
    from sim.errors import InputError

    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        dram("ddr4_3200", **timing)
