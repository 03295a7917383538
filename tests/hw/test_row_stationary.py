"""The row-stationary law against an array that is walked PE by PE, and its mapping rule against all mappings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sim.errors import InputError
from sim.hw.area import core_area
from sim.hw.chip import load_chip
from sim.hw.row_stationary import (
    FEWEST_PES,
    ConvShape,
    RowMapping,
    RowStationary,
    buffer_bytes,
    dram_words,
    layer_cycles,
    layer_mapping,
    pass_cycles,
    sets_on_array,
    undefined_reason,
)
from sim.hw.technology import load_technology

EYERISS = RowStationary(
    input_words=12, filter_words=224, sum_words=24, bank_bytes=4096, banks=25, longest_row=128
)
TINY = RowStationary(input_words=6, filter_words=24, sum_words=4, bank_bytes=64, banks=6, longest_row=5)

SHAPES = [
    ConvShape(2, 5, 6, 7, 6, 3, 3),
    ConvShape(3, 4, 8, 5, 5, 2, 3, 2, 2),
    ConvShape(1, 1, 3, 9, 11, 3, 2, 1, 2),
    ConvShape(4, 7, 5, 1, 1),
    ConvShape(2, 3, 4, 8, 3, 1, 1, 1, 1),
]


def _blocks(extent: int, size: int) -> list[range]:
    return [range(at, min(at + size, extent)) for at in range(0, extent, size)]


class Walk:
    """Every pass of a mapping on an array of PEs: what is multiplied where, and what the buffer is asked for."""

    def __init__(self, mapping: RowMapping, array_rows: int, array_columns: int) -> None:
        self.mapping, self.shape = mapping, mapping.shape
        shape = self.shape
        taps = (shape.in_channels, shape.kernel_rows, shape.kernel_columns)
        self.done = np.zeros((shape.images, shape.out_channels, shape.rows, shape.columns, *taps), np.int64)
        self.words = self.computing = self.dram = 0
        self.grid = (array_rows, array_columns)
        for n, f, e, m in itertools.product(
            _blocks(shape.images, mapping.images),
            _blocks(shape.columns, mapping.columns),
            _blocks(shape.rows, mapping.rows),
            _blocks(shape.out_channels, mapping.filters),
        ):
            self.part(n, f, e, m)

    def part(self, n: range, f: range, e: range, m: range) -> None:
        mapping, shape = self.mapping, self.shape
        high = (len(e) - 1) * shape.row_stride + shape.kernel_rows
        wide = (len(f) - 1) * shape.column_stride + shape.kernel_columns
        self.dram += len(n) * len(m) * len(e) * len(f)
        for c in _blocks(shape.in_channels, mapping.pass_channels):
            taps = len(c) * shape.kernel_rows * shape.kernel_columns
            self.dram += len(n) * len(c) * high * wide + len(m) * taps
            for filters in _blocks(len(m), mapping.pass_filters):
                self.words += len(n) * len(c) * high * wide + len(filters) * taps
                self.words += 2 * len(n) * len(filters) * len(e) * len(f)
                self.one_pass(n, f, e, [m[i] for i in filters], c)

    def one_pass(self, n: range, f: range, e: range, filters: list[int], c: range) -> None:
        mapping, shape, busiest = self.mapping, self.shape, 0
        p, q = -(-len(filters) // mapping.filter_sets), -(-len(c) // mapping.channel_sets)
        assert p * q * shape.kernel_columns <= TINY.filter_words
        assert p <= TINY.sum_words
        for t, r, i, j in itertools.product(
            range(mapping.filter_sets), range(mapping.channel_sets), range(shape.kernel_rows), range(len(e))
        ):
            mine = filters[t * p : t * p + p], list(c)[r * q : r * q + q]
            macs = 0
            for image, filt, column, channel in itertools.product(n, mine[0], f, mine[1]):
                self.done[image, filt, e[j], column, channel, i, :] += 1
                macs += shape.kernel_columns
            busiest = max(busiest, macs)
        self.computing += busiest


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (6, 3)])
def test_every_product_is_computed_once(shape: ConvShape, rows: int, columns: int) -> None:
    mapping = layer_mapping(shape, rows, columns, TINY)
    assert mapping is not None
    walk = Walk(mapping, rows, columns)
    assert (walk.done == 1).all()
    assert walk.done.sum() == shape.macs
    assert buffer_bytes(mapping) == 2 * walk.words
    sizes = (np.array(v) for v in (mapping.images, mapping.filters, mapping.rows))
    assert int(dram_words(shape, *sizes, mapping.columns)) == walk.dram
    assert layer_cycles(mapping, 1e12) - walk.computing == _overhead(mapping)
    assert mapping.active_pes <= rows * columns


def _overhead(mapping: RowMapping) -> int:
    """Cycles of all passes in which nothing streams: the last sum on its way out, one cycle to load filters."""
    shape, total = mapping.shape, 0
    for n, f, e, m, c in itertools.product(
        _blocks(shape.images, mapping.images),
        _blocks(shape.columns, mapping.columns),
        _blocks(shape.rows, mapping.rows),
        _blocks(shape.out_channels, mapping.filters),
        _blocks(shape.in_channels, mapping.pass_channels),
    ):
        assert n
        assert f
        assert e
        passes = _blocks(len(m), mapping.pass_filters)
        p = -(-len(passes[0]) // mapping.filter_sets)
        window = p * -(-len(c) // mapping.channel_sets) * shape.kernel_columns
        total += len(passes) * (window + shape.kernel_rows * mapping.channel_sets) + 1
        # The law charges the last, smaller share of the filters like the first.
        last = -(-len(passes[-1]) // mapping.filter_sets)
        total += len(n) * len(f) * (p - last) * (window // p)
    return total


@pytest.mark.parametrize("shape", SHAPES)
def test_no_mapping_with_enough_pes_moves_less(shape: ConvShape) -> None:
    mapping = layer_mapping(shape, 4, 6, TINY)
    assert mapping is not None
    reachable = []
    for n, m, e in itertools.product(
        range(1, shape.images + 1), range(1, shape.out_channels + 1), range(1, shape.rows + 1)
    ):
        trial = replace(mapping, images=n, filters=m, rows=e, pe_filters=1, pe_channels=1, channel_sets=1)
        high, wide = (e - 1) * shape.row_stride + shape.kernel_rows, (mapping.columns - 1)
        wide = wide * shape.column_stride + shape.kernel_columns
        banks = -(-2 * n * m * e * mapping.columns // 64) + -(-2 * n * high * wide // 64)
        strips = -(-e // 6)
        sets = (4 // shape.kernel_rows) * (6 // e) if strips == 1 else (4 // shape.kernel_rows) // strips
        pes = min(sets, shape.in_channels * m) * shape.kernel_rows * e
        if banks <= 6 and pes:
            reachable.append((pes, _moved(trial)))
    most = max(pes for pes, _ in reachable)
    least = min(moved for pes, moved in reachable if pes >= FEWEST_PES * most)
    assert _moved(mapping) == least


def _moved(mapping: RowMapping) -> int:
    """DRAM words, part by part."""
    shape, total = mapping.shape, 0
    taps = shape.in_channels * shape.kernel_rows * shape.kernel_columns
    for n, f, e, m in itertools.product(
        _blocks(shape.images, mapping.images),
        _blocks(shape.columns, mapping.columns),
        _blocks(shape.rows, mapping.rows),
        _blocks(shape.out_channels, mapping.filters),
    ):
        high = (len(e) - 1) * shape.row_stride + shape.kernel_rows
        wide = (len(f) - 1) * shape.column_stride + shape.kernel_columns
        total += len(n) * len(m) * len(e) * len(f) + len(m) * taps
        total += len(n) * shape.in_channels * high * wide
    return total


@pytest.mark.parametrize(
    ("kernel", "rows", "sets"),
    [(3, 13, 4), (3, 7, 8), (5, 27, 1), (5, 14, 2), (11, 7, 2), (3, 28, 2), (1, 1, 168)],
)
def test_sets_on_the_array_of_eyeriss(kernel: int, rows: int, sets: int) -> None:
    # Figure 6 of the paper: sets side by side, above each other, and folded.
    assert sets_on_array(kernel, np.array(rows), 12, 14) == sets


def test_pass_of_the_example_by_hand() -> None:
    # 3 x 3, 56 x 56, 256 -> 256: p t q r = 64 x 2. Filters 2304 B at 8 B a cycle; sums 2 x 2 x 64 x 13 x 56 B and
    # inputs 2 x 2 x 15 x 58 B at 16; 96 cycles until the last sum, which crosses 3 PEs.
    mapping = layer_mapping(ConvShape(3, 256, 256, 56, 56, 3, 3), 12, 14, EYERISS)
    assert mapping is not None
    assert mapping.text() == "m=64 n=1 e=13 p=16 q=2 r=1 t=4"
    sizes = [np.array(v) for v in (1, 64, 13, 56, 2)]
    assert pass_cycles(mapping, *sizes, bytes_per_cycle=16) == 288 + (186368 + 3480) / 16 + 0.5 + 96 + 3
    # With a buffer four times as wide the PEs are the slower: 56 x 16 x 2 x 3.
    assert pass_cycles(mapping, *sizes, bytes_per_cycle=64) == 72 + 5376 + 96 + 3


def test_more_bandwidth_is_never_slower() -> None:
    mapping = layer_mapping(ConvShape(3, 64, 128, 56, 56, 3, 3), 12, 14, EYERISS)
    assert mapping is not None
    cycles = [layer_cycles(mapping, width) for width in (4, 8, 16, 32, 64, 1024)]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > 2 * cycles[2]


def test_undefined_layers_are_refused_with_the_reason() -> None:
    wide = ConvShape(1, 3, 8, 20, 20, 3, 13)
    assert "13 words in a PE that holds 12" in undefined_reason(wide, 12, EYERISS)
    with pytest.raises(ValueError, match="13 filter rows on 12 rows of PEs"):
        layer_mapping(ConvShape(1, 3, 8, 20, 20, 13, 3), 12, 14, EYERISS)


def test_nothing_fits_a_buffer_of_two_small_banks() -> None:
    small = replace(EYERISS, bank_bytes=64, banks=2)
    assert layer_mapping(ConvShape(1, 64, 64, 56, 56, 3, 3), 12, 14, small) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"core.array.dataflow": "weight_stationary"}, "belongs to dataflow row_stationary"),
        ({"core.array.rates": {"int8": 1}}, "words of 16 bits; found int8"),
        ({"core.array.count": 2}, "one row-stationary array per core"),
        ({"core.array.row_stationary.banks": 27}, "leave nothing of sram.size for filters"),
        ({"core.array.row_stationary.bank": "100 B"}, "multiple of 64"),
        (
            {"core.accumulator": {"size": "1 KiB", "bandwidth": "1 GB/s"}},
            "partial sums in the PEs and in sram",
        ),
    ],
)
def test_a_chip_file_that_contradicts_itself_is_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_chip("eyeriss_v1").replace_many(change)


def test_scratchpads_are_part_of_the_area() -> None:
    # 168 x 520 B in the PEs beside 168 multipliers.
    chip, n65 = load_chip("eyeriss_v1"), load_technology("n65")
    pes = 168 * n65.pe_area["int16"].value
    assert core_area(chip.cores[0], n65)["arrays"] == pytest.approx(pes + n65.sram_area_mm2(168 * 520, 520))
