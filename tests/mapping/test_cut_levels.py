"""What compiled code makes of partitions over cores: levels to choose from, operands found in place."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from operator_graphs import GRAPHS

from sim.cost.compiled import tables_of
from sim.cost.cut_table import share_levels
from sim.cost.nest_tables import ROLES
from sim.graph.nest import Nest, channels_last, nests
from sim.mapping.candidates import MOST_CUTS, cut_table
from sim.mapping.grid import bounds
from sim.mapping.residency import Boxes, add_in_place, core_boxes
from sim.mapping.search import ALL_ROLES, split_candidates
from sim.mapping.splits import Splits, local_of, splits_of

NONE = np.empty((0, 0)), np.empty(0, np.int64)


def graph_nests(name: str) -> list[Nest]:
    graph = GRAPHS[name]()
    last = channels_last(graph)
    return [nest for op in graph.ops for nest in nests(op, graph.tensors, last)]


def all_splits(nest: Nest, cores: int) -> Splits:
    return splits_of(nest, split_candidates(nest, cores, ALL_ROLES))


def some_quanta(nest: Nest, side: int, seed: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.choice([1, side]) for _ in nest.dims)


@pytest.mark.parametrize("name", ["conv", "conv grouped", "matmul", "softmax", "concat"])
@pytest.mark.parametrize("coarse", [True, False])
def test_compiled_levels_are_those_of_the_tables_of_cuts(name: str, coarse: bool) -> None:
    """Against cut_table, which writes the ways to cut a role out in Python; copied from those without granules, too."""
    for nest in graph_nests(name):
        splits = all_splits(nest, 6)
        for vector in (False, True):
            shares = splits.shares(vector)
            if shares is None:
                continue
            for side in (1, 3, 7, 16):
                quanta = some_quanta(nest, side, side)
                levels_of = partial(share_levels, tables_of(nest), shares)
                levels, begin = levels_of(np.array(quanta), coarse, MOST_CUTS, *NONE)
                single = levels_of(np.ones(len(quanta), np.int64), coarse, MOST_CUTS, *NONE)
                again, same_begin = levels_of(np.array(quanta), coarse, MOST_CUTS, *single)
                assert (levels == again).all()
                assert (begin == same_begin).all()
                steps = levels[:, levels.shape[1] - len(quanta) :]
                for family, split in enumerate(splits.each if not vector else shares.splits.tolist()):
                    for place, role in enumerate(ROLES):
                        share = shares.of_family[family, place]
                        rows = steps[begin[share] : begin[share + 1] - 1]
                        dims = nest.role(role)
                        whole = not dims or (vector and role == "k")
                        chunks = tuple(nest.dims[dim].extent // split[dim] for dim in dims)
                        fine = tuple(quanta[dim] for dim in dims)
                        expected = np.ones((1, len(quanta))) if whole else np.ones((len(rows), len(quanta)))
                        if not whole:
                            expected[:, dims] = cut_table(chunks, fine, coarse)
                        assert (rows == expected).all(), (nest.name, split, role, quanta)


def touched(nest: Nest, operand: int, split: tuple[int, ...], quanta: tuple[int, ...], position: int) -> list[range]:
    """What the core at a position of the grid touches of an operand, by axis; without compiled code."""
    places = np.unravel_index(position, split)
    cuts = [bounds(e, p, q) for e, p, q in zip(nest.extents, split, quanta, strict=True)]
    low = [np.array([cut[at]]) for cut, at in zip(cuts, places, strict=True)]
    high = [np.array([cut[at + 1]]) for cut, at in zip(cuts, places, strict=True)]
    starts, stops = nest.operands[operand].boxes(low, high)
    return [range(a, b) for a, b in zip(starts[0].tolist(), stops[0].tolist(), strict=True)]


def held_there(kept: Boxes, core: int, box: list[range]) -> bool:
    """Does a core hold a box of a tensor of the same shape?"""
    inside = zip(kept.start[core].tolist(), kept.stop[core].tolist(), box, strict=True)
    return bool(kept.held[core]) and all(a <= mine.start and mine.stop <= b for a, b, mine in inside)


@pytest.mark.parametrize("name", ["conv", "matmul", "softmax", "concat"])
def test_operands_are_found_where_every_core_holds_its_box_whatever_the_granules(name: str) -> None:
    seen = set()
    cores = tuple(range(6))
    for seed, nest in enumerate(graph_nests(name)):
        splits = all_splits(nest, 6)
        for side in (2, 5, 16):
            quanta = [(1,) * len(nest.dims), some_quanta(nest, side, seed)]
            for operand, among in ((o, made) for o in range(len(nest.operands)) for made in splits.each):
                kept = core_boxes(operand, nest, among, quanta[side % 2], cores, 6)
                masks = np.zeros(len(splits.each), np.int64)
                add_in_place(operand, nest, splits.table, quanta, cores, kept, masks)
                for split, mask in zip(splits.each, masks.tolist(), strict=True):
                    expected = all(
                        held_there(kept, position, touched(nest, operand, split, fine, position))
                        for fine in quanta
                        for position in range(int(np.prod(split)))
                    )
                    assert mask == expected << operand, (nest.name, operand, among, split, quanta)
                    seen.add(expected)
    assert seen == {True, False}


def test_partitions_of_equal_nests_are_one_object_that_knows_who_is_resident() -> None:
    nest, other = (next(nest for nest in graph_nests("matmul") if nest.contraction) for _ in range(2))
    assert nest is not other
    splits = all_splits(nest, 8)
    assert all_splits(other, 8) is splits
    assert all_splits(nest, 3) is not splits
    sums = nest.role("k")
    uncut = [at for at, split in enumerate(splits.each) if all(split[dim] == 1 for dim in sums)]
    assert splits.unsummed.tolist() == uncut
    assert len(uncut) < len(splits.each)
    resident = {split: (at % 2 == 0, at % 3 == 0, True) for at, split in enumerate(splits.each)}
    local = local_of(nest, resident)
    assert local.splits is splits
    assert local.mapping(3) == resident
