"""Even cuts: they cover the extent, differ by at most a quantum, and agree with the vectorised largest part."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from sim.mapping.grid import bounds, counts, granules, largest_part, largest_size

extents, quanta = st.integers(1, 3000), st.sampled_from([1, 2, 7, 16, 128])


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int]:
    extent = draw(extents)
    return extent, draw(st.integers(1, extent)), draw(quanta)


def test_cuts_at_multiples_of_the_quantum_where_there_are_enough() -> None:
    assert bounds(1000, 3, 128).tolist() == [0, 256, 640, 1000]  # 8 blocks: 2, 3 and 3
    assert bounds(1000, 9, 128).tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 1000]
    assert bounds(5, 5).tolist() == [0, 1, 2, 3, 4, 5]


@given(cuts())
def test_parts_are_even_and_cover_the_extent(cut: tuple[int, int, int]) -> None:
    extent, parts, quantum = cut
    found = bounds(extent, parts, quantum)
    sizes = np.diff(found)
    assert (found[0], found[-1], len(sizes)) == (0, extent, parts)
    assert sizes.min() >= 1
    aligned = -(-extent // quantum) >= parts
    # The last part may lack what fills up its last quantum.
    assert np.ptp(sizes[:-1] if parts > 1 else sizes) <= (quantum if aligned else 1)
    assert not aligned or not (found[:-1] % quantum).any()


@given(cuts())
@example((15, 2, 7))  # 7 and 8: the longer part has two blocks, the second of one element
def test_largest_part_is_the_largest_of_the_bounds(cut: tuple[int, int, int]) -> None:
    extent, parts, quantum = cut
    every = np.array([1, parts, extent])
    wanted = [int(np.diff(bounds(extent, p, quantum)).max()) for p in every.tolist()]
    assert largest_part(extent, every, quantum).tolist() == wanted
    assert [largest_size(extent, p, quantum) for p in every.tolist()] == wanted


def test_counts_worth_trying() -> None:
    assert counts(1) == [1]
    assert counts(20) == [1, 2, 3, 4, 6, 8, 12, 16, 20]
    assert counts(20, limit=6) == [1, 2, 3, 4, 6]


@given(cuts(), st.integers(1, 40))
@example((12, 4, 2), 3)  # 12 tiles of 1, as there are 6 granules: each core has 3, not 2 or 4
def test_cores_are_cut_like_their_tiles(cut: tuple[int, int, int], steps: int) -> None:
    extent, cores, quantum = cut
    (granule,) = granules([extent], [cores * steps], [quantum])
    of_tiles = bounds(extent, cores * steps, quantum)[::steps]
    assert bounds(extent, cores, granule).tolist() == of_tiles.tolist()
