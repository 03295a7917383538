"""Boxes as runs of bytes, against the addresses of their elements one by one."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest

from sim.cost.moves import fill_region
from sim.graph.nest import Axis, Operand
from sim.graph.tensor import DTYPE_BITS, Role, Tensor
from sim.mapping.regions import Regions


def operand(
    shape: tuple[int, ...], dtype: str = "int8", role: Role = "activation", channels_last: bool = False
) -> Operand:
    return Operand(
        Tensor("x", shape, dtype, role), "main", tuple(Axis(size) for size in shape), channels_last
    )


def regions(x: Operand, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]) -> Regions:
    """The regions of boxes [..., rank], one after another as lowering finds them."""
    shape, rank, packed = start.shape[:-1], len(x.axes), x.tensor.role == "weight"
    order = np.array(x.memory_order()[::-1], np.int64)
    sizes = np.array([axis.size for axis in x.axes], np.int64)
    levels = 1 if packed else min(rank, max(1, rank - 1))
    offset, run = np.empty(shape, np.int64), np.empty(shape, np.int64)
    count, pitch = np.empty((2, *shape, levels), np.int64)
    for at, place in enumerate(np.ndindex(shape)):
        offset[place], run[place] = fill_region(
            order, sizes, rank, DTYPE_BITS[x.tensor.dtype], packed, start.reshape(-1), stop.reshape(-1), at * rank,
            count.reshape(-1), pitch.reshape(-1), at * levels, levels,
        )  # fmt: skip
    return Regions(offset, run, count, pitch)


def size_bytes(found: Regions) -> int:
    """Bytes of one region."""
    return int(found.run_bytes * found.count.prod())


def addresses(found: Regions) -> list[int]:
    """Every byte of one region, in order."""
    bytes_: list[int] = []
    for place in np.ndindex(*found.count.tolist()):
        start = int(found.offset_bytes + (np.array(place) * found.pitch_bytes).sum())
        bytes_ += range(start, start + int(found.run_bytes))
    return bytes_


@pytest.mark.parametrize("seed", range(120))
def test_a_region_is_the_bytes_of_the_box(seed: int) -> None:
    rng = random.Random(seed)
    shape = tuple(rng.randint(1, 5) for _ in range(rng.randint(1, 5)))
    last = rng.random() < 0.5 and len(shape) > 2
    start = [rng.randrange(size) for size in shape]
    stop = [rng.choice((size, rng.randint(low + 1, size))) for low, size in zip(start, shape, strict=True)]
    x = operand(shape, "int16", channels_last=last)
    found = regions(x, np.array(start), np.array(stop))
    order = x.memory_order()
    memory = np.arange(np.prod(shape)).reshape([shape[axis] for axis in order])
    box = memory[tuple(slice(start[axis], stop[axis]) for axis in order)].reshape(-1)
    assert addresses(found) == [2 * element + byte for element in box.tolist() for byte in range(2)]
    assert size_bytes(found) == 2 * box.size
    assert found.run_bytes == x.run_bytes(np.array(stop) - np.array(start))


def test_rows_of_a_matrix() -> None:
    """Rows 8 to 16 of columns 32 to 64 of 128 x 256 bytes; whole rows are one run."""
    found = regions(operand((128, 256)), np.array([[8, 32], [8, 0]]), np.array([[16, 64], [16, 256]]))
    assert found.offset_bytes.tolist() == [8 * 256 + 32, 8 * 256]
    assert found.run_bytes.tolist() == [32, 8 * 256]
    assert (found.count.tolist(), found.pitch_bytes.tolist()) == ([[8], [1]], [[256], [256]])


@pytest.mark.parametrize("seed", range(40))
def test_tiles_of_weights_fill_the_tensor_without_gap_or_overlap(seed: int) -> None:
    rng = random.Random(seed)
    shape = tuple(rng.randint(1, 6) for _ in range(rng.randint(1, 4)))
    cuts = [sorted({0, size, *(rng.randrange(size) for _ in range(2))}) for size in shape]
    tiles = list(np.ndindex(*(len(cut) - 1 for cut in cuts)))
    start = np.array([[cut[i] for cut, i in zip(cuts, tile, strict=True)] for tile in tiles])
    stop = np.array([[cut[i + 1] for cut, i in zip(cuts, tile, strict=True)] for tile in tiles])
    found = regions(operand(shape, role="weight"), start, stop)
    assert (found.count == 1).all()
    covered = sorted(
        b for at, n in zip(found.offset_bytes, found.run_bytes, strict=True) for b in range(at, at + n)
    )
    assert covered == list(range(int(np.prod(shape))))


def test_half_bytes_are_rounded_up_run_by_run() -> None:
    found = regions(operand((4, 10), "int4"), np.array([1, 1]), np.array([3, 4]))
    assert (int(found.offset_bytes), int(found.run_bytes), size_bytes(found)) == (5, 2, 4)


def test_a_scalar_is_one_run() -> None:
    found = regions(operand((), "fp32"), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert (int(found.offset_bytes), size_bytes(found)) == (0, 4)
