"""Bank conflicts in closed form against a model of the banks, cycle by cycle."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.hw.sram import conflict_factor


def cycles(words: list[list[int]], banks: int) -> int:
    """Cycles of a memory of so many banks for rows of reads, one row after another: a row is done when every bank has
    given the words that are asked of it, one a cycle; who asks for the same word gets it at the same time."""
    clock = 0
    for row in words:
        waiting = [deque[int]() for _ in range(banks)]
        for word in sorted(set(row)):
            waiting[word % banks].append(word)
        while any(waiting):
            for queue in waiting:
                if queue:
                    queue.popleft()
            clock += 1
    return clock


def test_random_strides_banks_and_lanes() -> None:
    rng = random.Random(7)
    for _ in range(400):
        banks = rng.choice([1, 2, 4, 8, 16, 32, 64, rng.randint(1, 70)])
        stride, lanes, rows = rng.randint(1, 3 * banks), rng.randint(1, 150), rng.randint(1, 3)
        starts = [rng.randint(0, 1000) for _ in range(rows)]
        at_stride = cycles([[start + stride * lane for lane in range(lanes)] for start in starts], banks)
        side_by_side = cycles([[start + lane for lane in range(lanes)] for start in starts], banks)
        factor = float(conflict_factor(stride, lanes, banks))
        assert at_stride == pytest.approx(factor * side_by_side), (stride, lanes, banks)


def test_by_hand() -> None:
    strides = np.array([0, 1, 2, 3, 4, 8, 12, 16, 17, 32])
    assert conflict_factor(strides, 16, 16).tolist() == [1, 1, 2, 1, 4, 8, 4, 16, 1, 16]
    # Four lanes never wait for more than each other; 40 lanes take 3 cycles side by side, 5 from 8 banks.
    assert conflict_factor(strides, 4, 16).tolist() == [1, 1, 1, 1, 1, 2, 1, 4, 1, 4]
    assert float(conflict_factor(2, 40, 16)) == 5 / 3


def test_one_word_for_all_is_read_once() -> None:
    assert cycles([[5] * 64], 8) == 1
    assert float(conflict_factor(0, 64, 8)) == 1.0


def test_a_bank_gives_its_share_of_the_bandwidth() -> None:
    kind = load_chip("tiny").cores[0]
    # 32 GB/s at 500 MHz are 64 B a cycle, from 4 banks.
    assert kind.sram.word_bytes(kind.clock_hz) == 16.0
