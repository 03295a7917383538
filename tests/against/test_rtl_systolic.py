"""The systolic timing law against the RTL array of tests/against/rtl (see docs/validation_rtl.md)."""

import os
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable

import pytest
from rtl.make_golden import Build, Counted, builds, random_cases, read_golden, simulate

from sim.hw.systolic import gemm_cycles, gemm_hold_cycles, streamed_length

GOLDEN = read_golden()
LIVE = [build for build in builds() if build.rows * build.cols <= 256]  # larger arrays take minutes


def law(build: Build) -> dict[str, object]:
    return {
        "rows": build.rows,
        "cols": build.cols,
        "dataflow": build.dataflow,
        "overlap_folds": build.overlap_folds,
    }


def cases(counted: Iterable[Counted]) -> list[list[Counted]]:
    """The queues of GEMMs, each in order."""
    queues = defaultdict(list)
    for one in counted:
        queues[one.build, one.case].append(one)
    return list(queues.values())


def predicted_finishes(queue: list[Counted], *, successor_known: bool = True) -> list[int]:
    """Finish cycle of every GEMM of a queue that starts each as soon as the law allows."""
    finishes, free = [], 0
    for one, following in zip(queue, [*queue[1:], None], strict=True):
        g, kwargs = one.gemm, law(one.build)
        next_streamed = None
        if following and successor_known:
            f = following.gemm
            next_streamed = streamed_length(f.m, f.n, f.k, dataflow=one.build.dataflow)
        start = max(g.release_cycle, free)
        finishes.append(start + gemm_cycles(g.m, g.n, g.k, **kwargs))
        free = start + gemm_hold_cycles(g.m, g.n, g.k, **kwargs, next_streamed=next_streamed)
    return finishes


def assert_law_equals(counted: list[Counted]) -> None:
    for queue in cases(counted):
        head = queue[0]
        assert head.issue_cycle == head.gemm.release_cycle  # so that the first finish is a duration
        assert all(one.issue_cycle >= one.gemm.release_cycle for one in queue)
        assert predicted_finishes(queue) == [one.finish_cycle for one in queue], queue


def test_golden_counts_cover_the_claim() -> None:
    lone = [queue[0] for queue in cases(GOLDEN) if len(queue) == 1]
    assert len({(one.build, one.gemm) for one in lone}) >= 500
    assert {(one.build.dataflow, one.build.overlap_folds) for one in lone} == {
        (dataflow, overlap)
        for dataflow in ("weight_stationary", "output_stationary", "input_stationary")
        for overlap in (False, True)
    }
    assert {one.build for one in GOLDEN} == set(builds())
    assert max(one.build.rows * one.build.cols for one in lone) == 32 * 32
    assert sum(one.gemm.m == 1 for one in lone) >= 50
    assert sum(len(queue) > 1 for queue in cases(GOLDEN)) >= 150


@pytest.mark.parametrize("build", builds(), ids=str)
def test_law_equals_golden_counts(build: Build) -> None:
    assert_law_equals([one for one in GOLDEN if one.build == build])


def test_hold_without_successor_is_off_by_less_than_one_drain() -> None:
    misses = {False: 0, True: 0}  # by "is output stationary with overlap"
    for queue in cases(GOLDEN):
        build = queue[0].build
        counted = [one.finish_cycle for one in queue]
        predicted = predicted_finishes(queue, successor_known=False)
        assert all(abs(p - c) < build.rows for p, c in zip(predicted, counted, strict=True))
        misses[build.dataflow == "output_stationary" and build.overlap_folds] += predicted != counted
    assert misses[False] == 0
    assert misses[True] > 0  # else next_streamed would be a needless argument


@pytest.mark.rtl
@pytest.mark.parametrize("build", LIVE, ids=str)
def test_law_equals_live_rtl(build: Build) -> None:
    if shutil.which("iverilog") is None:
        reason = "iverilog is not installed: the live RTL was NOT run (apt-get install iverilog)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    golden = [one for one in GOLDEN if one.build == build]
    queues = [tuple(one.gemm for one in queue) for queue in cases(golden)]
    assert simulate(build, queues) == golden  # the committed counts are those of this RTL
    fresh = simulate(build, random_cases(build, random.Random(str(build))))  # and not fitted to those cases
    assert_law_equals(fresh)
