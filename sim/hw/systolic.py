"""The timing law of a systolic array: how many cycles a GEMM takes, and when the next one may follow.

A GEMM (M x K by K x N) on R rows by C columns runs as *folds*: one fold keeps one R x C tile in place while T
operand vectors stream past it.

    dataflow             in place    folds                      T (streamed)
    weight_stationary    weights     ceil(K/R) * ceil(N/C)      M
    input_stationary     inputs      ceil(K/R) * ceil(M/C)      N
    output_stationary    results     ceil(M/R) * ceil(N/C)      K

One fold takes 2R + C + T - 2 cycles: R to shift the weights in (or the results out), T to stream, and
R - 1 + C - 1 for the skewed wavefront to cross the array. A partial tile is padded to the whole array.

    one buffer per PE    folds * (2R + C + T - 2)
    overlapped folds     (2R + C + T - 2) + (folds - 1) * max(T, R)

Overlapped folds need a second weight register per PE (output_stationary: a second result register), so that
one fold shifts in (out) while its neighbour streams; the slower of the two then sets the pace.

Example: M, N, K = 5, 6, 7 on 4 x 4, weight_stationary: 2 * 2 folds with T = 5. One fold takes
8 + 4 + 5 - 2 = 15 cycles, so the GEMM takes 60 with one buffer and 15 + 3 * 5 = 30 with overlapped folds.

Source: one fold is the analytical model of Samajdar et al., "A Systematic Methodology for Characterizing
Scalability of DNN Accelerators using SCALE-Sim", ISPASS 2020. Both formulas and the hold are what the array
in tests/against/rtl does, to the cycle (docs/validation_rtl.md).

Everywhere below, M, N, K, R and C are integers or integer arrays that broadcast; integers give an int, arrays
an array of the broadcast shape. Raised everywhere: ValueError on an unknown dataflow, on a size that is not a
whole number of at least 1, and on counts beyond 2**62. A cycle is one of a full-rate data type; the caller
scales for slower ones.
"""

from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

DATAFLOWS = ("weight_stationary", "output_stationary", "input_stationary")

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Sizes = int | IntArray


@overload
def folds(  # type: ignore[overload-overlap]  # integers also match the array signature, less exactly
    m: int, n: int, k: int, *, rows: int, cols: int, dataflow: str
) -> int: ...
@overload
def folds(m: Sizes, n: Sizes, k: Sizes, *, rows: Sizes, cols: Sizes, dataflow: str) -> IntArray: ...
def folds(m: Sizes, n: Sizes, k: Sizes, *, rows: Sizes, cols: Sizes, dataflow: str) -> Sizes:
    """Tiles that are kept in place one after another: 4 in the module's example."""
    return _int_or_array(_folding(m, n, k, rows, cols, dataflow).count)


@overload
def streamed_length(m: int, n: int, k: int, *, dataflow: str) -> int: ...  # type: ignore[overload-overlap]
@overload
def streamed_length(m: Sizes, n: Sizes, k: Sizes, *, dataflow: str) -> IntArray: ...
def streamed_length(m: Sizes, n: Sizes, k: Sizes, *, dataflow: str) -> Sizes:
    """Operand vectors T that pass a tile in place: 5 in the module's example."""
    return _int_or_array(_folding(m, n, k, 1, 1, dataflow).streamed.copy())


@overload
def gemm_cycles(  # type: ignore[overload-overlap]
    m: int, n: int, k: int, *, rows: int, cols: int, dataflow: str, overlap_folds: bool
) -> int: ...
@overload
def gemm_cycles(
    m: Sizes, n: Sizes, k: Sizes, *, rows: Sizes, cols: Sizes, dataflow: str, overlap_folds: bool
) -> IntArray: ...
def gemm_cycles(
    m: Sizes, n: Sizes, k: Sizes, *, rows: Sizes, cols: Sizes, dataflow: str, overlap_folds: bool
) -> Sizes:
    """Cycles from the first vector offered to an idle array to the last result out of it, both included."""
    return _int_or_array(_folding(m, n, k, rows, cols, dataflow).cycles(overlap_folds))


@overload
def gemm_hold_cycles(  # type: ignore[overload-overlap]
    m: int,
    n: int,
    k: int,
    *,
    rows: int,
    cols: int,
    dataflow: str,
    overlap_folds: bool,
    next_streamed: int | None = None,
) -> int: ...
@overload
def gemm_hold_cycles(
    m: Sizes,
    n: Sizes,
    k: Sizes,
    *,
    rows: Sizes,
    cols: Sizes,
    dataflow: str,
    overlap_folds: bool,
    next_streamed: Sizes | None = None,
) -> IntArray: ...
def gemm_hold_cycles(
    m: Sizes,
    n: Sizes,
    k: Sizes,
    *,
    rows: Sizes,
    cols: Sizes,
    dataflow: str,
    overlap_folds: bool,
    next_streamed: Sizes | None = None,
) -> Sizes:
    """Cycles from a GEMM's start until the next one on the same array may start; at most its `gemm_cycles`.

    With start = max(ready, previous start + previous hold), every GEMM of a queue finishes at
    start + `gemm_cycles`, whatever the shapes.

        one buffer per PE             gemm_cycles
        overlapped folds, WS and IS   folds * max(T, R)
        overlapped folds, OS          (folds - 1) * max(T, R) + T + max(0, R - T_next)

    An output-stationary GEMM streams its first tile while its predecessor's last one drains for R cycles, and
    must not be done before: how long it is held back depends on its own T. `next_streamed` is that T_next,
    the `streamed_length` of the next GEMM in the queue. Left out, it is this GEMM's own T, which makes
    the hold folds * max(T, R): exact in a run of equal T and wherever T >= R, else off by less than R cycles,
    and the errors along a queue do not add up. The other dataflows ignore it.
    """
    folding = _folding(m, n, k, rows, cols, dataflow)
    following = folding.streamed if next_streamed is None else _sizes("next_streamed", next_streamed)
    if not overlap_folds:
        hold = folding.cycles(overlap_folds)
    elif dataflow == "output_stationary":
        hold = (folding.count - 1) * folding.pace + folding.streamed + np.maximum(0, folding.rows - following)
    else:
        hold = folding.count * folding.pace
    return _int_or_array(hold)


@dataclass(frozen=True, slots=True)
class _Folding:
    """A checked GEMM laid out on an array; all arrays of one shape."""

    count: IntArray
    streamed: IntArray
    rows: IntArray
    cols: IntArray

    @property
    def pace(self) -> IntArray:
        """Cycles from one overlapped fold to the next."""
        return np.maximum(self.streamed, self.rows)

    def cycles(self, overlap_folds: bool) -> IntArray:
        one = 2 * self.rows + self.cols + self.streamed - 2
        return one + (self.count - 1) * (self.pace if overlap_folds else one)


def _folding(m: Sizes, n: Sizes, k: Sizes, rows: Sizes, cols: Sizes, dataflow: str) -> _Folding:
    m, n, k, rows, cols = np.broadcast_arrays(
        _sizes("m", m), _sizes("n", n), _sizes("k", k), _sizes("rows", rows), _sizes("cols", cols)
    )
    if dataflow not in DATAFLOWS:
        raise ValueError(f"unknown dataflow {dataflow!r}; one of {', '.join(DATAFLOWS)}")
    on_rows, on_cols, streamed = {
        "weight_stationary": (k, n, m),
        "output_stationary": (m, n, k),
        "input_stationary": (k, m, n),
    }[dataflow]
    row_tiles, col_tiles = -(-on_rows // rows), -(-on_cols // cols)
    # In floats, which cannot wrap around: the slowest case, folds one after another.
    most = 1.0 * row_tiles * col_tiles * (2.0 * rows + cols + streamed)
    if np.any(most > 2.0**62):
        raise ValueError(f"a GEMM of up to {np.max(most):.3g} cycles is beyond the range of 2**62")
    return _Folding(row_tiles * col_tiles, streamed, rows, cols)


def _sizes(name: str, value: Sizes) -> IntArray:
    sizes = np.asarray(value)
    if sizes.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a whole number or an array of them, not {value!r}")
    if np.any(sizes < 1):
        raise ValueError(f"{name} must be at least 1, not {np.min(sizes)}")
    return sizes.astype(np.int64)


def _int_or_array(counts: IntArray) -> Sizes:
    return counts if counts.ndim else int(counts)
