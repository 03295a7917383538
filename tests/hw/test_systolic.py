"""The closed timing law of the systolic array; tests/against/test_rtl_systolic.py proves it against RTL."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.hw.systolic import (
    DATAFLOWS,
    folds,
    gemm_cycles,
    gemm_hold_cycles,
    streamed_length,
)

WS, OS, IS = "weight_stationary", "output_stationary", "input_stationary"
extents = st.integers(1, 300)
sides = st.integers(1, 64)
dataflows = st.sampled_from(DATAFLOWS)


# One fold worked by hand, m = n = k = 2 on 2 x 2, weight stationary. Cycle 0-1: two weight rows shift in.
# PE(r, c) multiplies vector t in cycle 2 + t + r + c; the last one, t = r = c = 1, in cycle 5: 6 cycles.
@pytest.mark.parametrize(
    ("dataflow", "m", "n", "k", "rows", "cols", "fold_count", "streamed", "serial", "overlapped", "hold"),
    [
        (WS, 2, 2, 2, 2, 2, 1, 2, 6, 6, 2),
        (OS, 2, 2, 2, 2, 2, 1, 2, 6, 6, 2),
        (IS, 2, 2, 2, 2, 2, 1, 2, 6, 6, 2),
        (WS, 5, 6, 7, 4, 4, 2 * 2, 5, 4 * 15, 15 + 3 * 5, 4 * 5),
        (OS, 5, 6, 7, 4, 4, 2 * 2, 7, 4 * 17, 17 + 3 * 7, 4 * 7),
        (IS, 5, 6, 7, 4, 4, 2 * 2, 6, 4 * 16, 16 + 3 * 6, 4 * 6),
        (WS, 1, 1000, 4096, 128, 64, 32 * 16, 1, 512 * 319, 319 + 511 * 128, 512 * 128),  # decode: loads rule
        (OS, 1, 1000, 4096, 128, 64, 1 * 16, 4096, 16 * 4414, 4414 + 15 * 4096, 16 * 4096),
        (IS, 1, 1000, 4096, 128, 64, 32 * 1, 1000, 32 * 1318, 1318 + 31 * 1000, 32 * 1000),
        (OS, 9, 9, 1, 8, 4, 2 * 3, 1, 6 * 19, 19 + 5 * 8, 6 * 8),  # drains rule
        (WS, 1, 1, 1, 1, 1, 1, 1, 2, 2, 1),
    ],
)
def test_hand_worked(
    dataflow: str,
    m: int,
    n: int,
    k: int,
    rows: int,
    cols: int,
    fold_count: int,
    streamed: int,
    serial: int,
    overlapped: int,
    hold: int,
) -> None:
    array = {"rows": rows, "cols": cols, "dataflow": dataflow}
    assert folds(m, n, k, **array) == fold_count
    assert streamed_length(m, n, k, dataflow=dataflow) == streamed
    assert gemm_cycles(m, n, k, **array, overlap_folds=False) == serial
    assert gemm_cycles(m, n, k, **array, overlap_folds=True) == overlapped
    assert gemm_hold_cycles(m, n, k, **array, overlap_folds=False) == serial
    assert gemm_hold_cycles(m, n, k, **array, overlap_folds=True) == hold


def test_output_stationary_hold_depends_on_the_next_stream() -> None:
    # 8 x 4 array, T = 10: the stream ends in cycle 10, the drain in cycle 18. The next may stream from 10 on,
    # but must not be done before 18: a stream of 3 starts in 15.
    array = {"rows": 8, "cols": 4, "dataflow": OS, "overlap_folds": True}
    assert gemm_hold_cycles(8, 4, 10, **array) == 10
    assert gemm_hold_cycles(8, 4, 10, **array, next_streamed=3) == 15
    assert gemm_hold_cycles(8, 4, 10, **array, next_streamed=8) == 10
    assert gemm_hold_cycles(8, 4, 2, **array, next_streamed=100) == 2
    assert gemm_hold_cycles(8, 4, 2, **array) == 8
    weights = {**array, "dataflow": WS}
    assert gemm_hold_cycles(10, 4, 8, **weights, next_streamed=3) == 10


@given(extents, extents, extents, sides, sides, dataflows)
def test_one_fold_needs_no_overlap(m: int, n: int, k: int, rows: int, cols: int, dataflow: str) -> None:
    array = {"rows": rows, "cols": cols, "dataflow": dataflow}
    serial = gemm_cycles(m, n, k, **array, overlap_folds=False)
    overlapped = gemm_cycles(m, n, k, **array, overlap_folds=True)
    if folds(m, n, k, **array) == 1:
        assert overlapped == serial
    else:
        assert overlapped < serial


@given(extents, extents, extents, sides, sides, dataflows, st.booleans(), st.integers(1, 300))
def test_bounds(
    m: int, n: int, k: int, rows: int, cols: int, dataflow: str, overlap: bool, next_streamed: int
) -> None:
    law = {"rows": rows, "cols": cols, "dataflow": dataflow, "overlap_folds": overlap}
    cycles = gemm_cycles(m, n, k, **law)
    assert m * n * k < cycles * rows * cols  # no PE does two multiplications in a cycle
    assert 0 < gemm_hold_cycles(m, n, k, **law, next_streamed=next_streamed) <= cycles
    assert m * n * k <= gemm_hold_cycles(m, n, k, **law) * rows * cols
    for larger in ((m + 1, n, k), (m, n + 1, k), (m, n, k + 1)):
        assert gemm_cycles(*larger, **law) >= cycles
        assert gemm_hold_cycles(*larger, **law) >= gemm_hold_cycles(m, n, k, **law)


@given(extents, extents, extents, sides, sides, st.booleans())
def test_input_stationary_is_weight_stationary_transposed(
    m: int, n: int, k: int, rows: int, cols: int, overlap: bool
) -> None:
    array = {"rows": rows, "cols": cols, "overlap_folds": overlap}
    assert gemm_cycles(m, n, k, **array, dataflow=IS) == gemm_cycles(n, m, k, **array, dataflow=WS)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("overlap", [False, True])
def test_arrays_equal_scalars(dataflow: str, overlap: bool) -> None:
    rng = np.random.default_rng(7)
    m, n, k = rng.integers(1, 500, (3, 40, 1))
    rows, cols = rng.integers(1, 40, (2, 1, 5))
    law = {"dataflow": dataflow, "overlap_folds": overlap}
    for function in (gemm_cycles, gemm_hold_cycles):
        values = function(m, n, k, rows=rows, cols=cols, **law)
        assert values.shape == (40, 5)
        for i, j in np.ndindex(values.shape):
            gemm = (int(m[i, 0]), int(n[i, 0]), int(k[i, 0]))
            one = function(*gemm, rows=int(rows[0, j]), cols=int(cols[0, j]), **law)
            assert type(one) is int
            assert values[i, j] == one


def test_results_have_the_broadcast_shape() -> None:
    assert folds(np.array([1, 2, 3]), 6, 7, rows=4, cols=4, dataflow=WS).tolist() == [4, 4, 4]
    assert streamed_length(5, np.array([1, 2]), 7, dataflow=OS).tolist() == [7, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataflow": "row_stationary"}, "weight_stationary, output_stationary, input_stationary"),
        ({"m": 0}, "m must be at least 1, not 0"),
        ({"n": np.array([3, -2])}, "n must be at least 1, not -2"),
        ({"k": 2.0}, "k must be a whole number"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"cols": -1}, "cols must be at least 1"),
        ({"next_streamed": 0}, "next_streamed must be at least 1"),
        ({"m": 10**9, "n": 10**9, "k": 10**9}, r"beyond the range of 2\*\*62"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"m": 3, "n": 3, "k": 3, "rows": 4, "cols": 4, "dataflow": WS, "overlap_folds": True}
    with pytest.raises(ValueError, match=message):
        gemm_hold_cycles(**{**good, **change})
