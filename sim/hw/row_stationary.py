"""The timing law of a row-stationary array: which part of a convolution it works on at a time, and for how long.

A PE keeps one row of a filter and slides one row of an input past it, which makes one row of a result. R x e PEs, one
for each of R filter rows and e result rows, are a *set*: filter rows go along its rows, input rows along its
diagonals, partial sums up its columns. The array holds as many sets as fit,

    e <= columns    (rows // R) x (columns // e)
    e >  columns    (rows // R) // ceil(e / columns)      folded into strips that lie one above the other

of which r work on different channels (and add up their sums) and t on different filters; a PE interleaves p filters
and q channels. A *pass* thus takes p t filters and q r channels over e rows of n images. The global buffer keeps the
sums of m filters over those rows until all channels have passed; sums and inputs lie in banks of their own:

    banks(n m e F) + slots x banks(n q r ((e - 1) U + R) W) <= banks of the buffer
    q S <= input words of a PE,    p q S <= its filter words,    p <= its sum words

Which mapping runs follows from the sizes alone (`layer_mapping`): 1. rows longer than `longest_row` are cut into the
fewest equal parts; 2. of all (n, m, e) that leave at least nine tenths of the reachable PEs at work, the one with the
least DRAM traffic, then the most PEs; 3. of all (p, q, r, t), the one with the least buffer traffic, where inputs get
two sets of banks (the next pass loads behind the present one) unless that more than doubles the traffic.

A pass takes (`pass_cycles`; the buffer moves B bytes a cycle, half of them reads; a word has 2)

    2 p t q r R S / (B/2)  +  max(n F p q S, (4 n p t e F + 2 n q r ((e-1)U+R) W) / B)  +  p q S + R r

that is its filters, then the slower of PEs and buffer, then the way of the last sum through the PEs.

Sources: array, sets, passes and their parameters m, n, e, p, q, r, t as in Chen et al., "Eyeriss: An Energy-Efficient
Reconfigurable Accelerator for Deep Convolutional Neural Networks", JSSC 2017. The rule that picks them is ours, found
on eleven of its measured layers (tests/against/test_eyeriss_silicon.py); the paper's compiler is not published.

Example: 3 x 3 filters on 56 x 56, 256 to 256 channels, 3 images, on 12 x 14 PEs: n = 1, m = 64, e = 13, p = 16, q = 2,
r = 1, t = 4; four sets of 3 x 13, 156 of 168 PEs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt

from sim.config import Field, Part, Unit

Int64 = npt.NDArray[np.int64]

WORD_BYTES = 2
"""Inputs, filters and sums are 16 bits wide."""

FEWEST_PES = 0.9
"""Share of the reachable PEs below which a mapping is not considered."""

MOST_TRAFFIC = 2.0
"""Inputs are double-buffered unless that makes the buffer traffic larger than this many times."""


@dataclass(frozen=True, slots=True)
class RowStationary(Part):
    """Scratchpads of a PE of a row-stationary array, and how the array uses the core's SRAM (the global buffer).

    Words have 16 bits.
    """

    input_words: Annotated[int, Field(ge=1, le=1 << 16, description="inputs a PE holds: its sliding window")]
    filter_words: Annotated[int, Field(ge=1, le=1 << 16, description="filter weights a PE holds")]
    sum_words: Annotated[int, Field(ge=1, le=1 << 16, description="partial sums a PE holds")]
    bank_bytes: Annotated[
        int,
        Unit("size"),
        Field(alias="bank", gt=0, multiple_of=64, description="bank of the SRAM, for inputs or for sums"),
    ]
    banks: Annotated[
        int, Field(ge=2, le=4096, description="banks for inputs and sums; the rest is for filters")
    ]
    longest_row: Annotated[
        int, Field(ge=1, le=1 << 16, description="results per row beyond which rows are cut into equal parts")
    ]
    zero_gating: Annotated[
        bool, Field(description="a PE neither reads a filter word nor multiplies where its input is zero")
    ] = False

    @property
    def pe_bytes(self) -> int:
        """Scratchpads of one PE."""
        return (self.input_words + self.filter_words + self.sum_words) * WORD_BYTES


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution of one group. `rows` and `columns` are the result's; input rows include the padding."""

    images: int
    in_channels: int
    out_channels: int
    rows: int
    columns: int
    kernel_rows: int = 1
    kernel_columns: int = 1
    row_stride: int = 1
    column_stride: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates: one per image, result element, channel and filter tap."""
        taps = self.in_channels * self.kernel_rows * self.kernel_columns
        return self.images * self.out_channels * self.rows * self.columns * taps


@dataclass(frozen=True, slots=True)
class RowMapping:
    """How a layer runs. Per buffer load: `images` n, `filters` m, `rows` e, `columns` F; per PE: `pe_filters` p,
    `pe_channels` q; over sets: `channel_sets` r, `filter_sets` t. `input_slots` is 2 where inputs are doubled."""

    shape: ConvShape
    images: int
    filters: int
    rows: int
    columns: int
    pe_filters: int
    pe_channels: int
    channel_sets: int
    filter_sets: int
    input_slots: int

    @property
    def active_pes(self) -> int:
        """PEs that have work in a full pass."""
        return self.channel_sets * self.filter_sets * self.shape.kernel_rows * self.rows

    @property
    def pass_channels(self) -> int:
        """q r."""
        return self.pe_channels * self.channel_sets

    @property
    def pass_filters(self) -> int:
        """p t."""
        return self.pe_filters * self.filter_sets

    def text(self) -> str:
        """The parameters as the paper names them."""
        names = ("m", "n", "e", "p", "q", "r", "t")
        values = (self.filters, self.images, self.rows, self.pe_filters, self.pe_channels)
        pairs = zip(names, (*values, self.channel_sets, self.filter_sets), strict=True)
        return " ".join(f"{name}={value}" for name, value in pairs)


def undefined_reason(shape: ConvShape, array_rows: int, limits: RowStationary) -> str:
    """Why the law does not cover a layer; "" where it does."""
    if shape.kernel_rows > array_rows:
        return f"{shape.kernel_rows} filter rows on {array_rows} rows of PEs"
    most = min(limits.input_words, limits.filter_words)
    if shape.kernel_columns > most:
        return f"a filter row of {shape.kernel_columns} words in a PE that holds {most}"
    if shape.column_stride > shape.kernel_columns and shape.column_stride > most:
        return f"a stride of {shape.column_stride} words in a PE that holds {most}"
    return ""


def sets_on_array(kernel_rows: int, rows: Int64, array_rows: int, array_columns: int) -> Int64:
    """Sets of `kernel_rows` x `rows` PEs that fit the array; 0 where not one does.

    On 12 x 14: 3 x 13 fits 4 times, 3 x 7 8 times, 5 x 27 (as 14 + 13) once.
    """
    high = array_rows // kernel_rows
    strips = -(-rows // array_columns)
    return np.where(strips == 1, high * (array_columns // np.minimum(rows, array_columns)), high // strips)


@lru_cache(maxsize=4096)
def layer_mapping(
    shape: ConvShape, array_rows: int, array_columns: int, limits: RowStationary, results_held: int = 1
) -> RowMapping | None:
    """The mapping of a layer by the rule of the module; None where not even one row of one filter fits.

    `results_held` is how many times the buffer holds a part of the results: once for the sums, once more for every
    operand as large as the result that is added to them.

    Raises ValueError where the law is not defined (see `undefined_reason`).
    """
    reason = undefined_reason(shape, array_rows, limits)
    if reason:
        raise ValueError(f"row_stationary is not defined for {reason}")
    columns = -(-shape.columns // -(-shape.columns // limits.longest_row))
    chosen = _buffered_part(shape, columns, array_rows, array_columns, limits, results_held)
    if chosen is None:
        return None
    images, filters, rows = chosen
    sets = int(sets_on_array(shape.kernel_rows, np.array(rows), array_rows, array_columns))
    part = RowMapping(shape, images, filters, rows, columns, 1, 1, 1, 1, 1)
    single, double = (_pass(part, sets, slots, limits, results_held) for slots in (1, 2))
    if double is None or single is None:
        return single
    return double if buffer_bytes(double) <= MOST_TRAFFIC * buffer_bytes(single) else single


def _buffered_part(
    shape: ConvShape,
    columns: int,
    array_rows: int,
    array_columns: int,
    limits: RowStationary,
    results_held: int,
) -> tuple[int, int, int] | None:
    """(n, m, e) with the least DRAM traffic; None where nothing fits."""
    axes = (_parts(shape.images), _shares(shape.out_channels), range(1, shape.rows + 1))
    n, m, e = (grid.reshape(-1) for grid in np.meshgrid(*axes, indexing="ij"))
    sets = sets_on_array(shape.kernel_rows, e, array_rows, array_columns)
    active = np.minimum(sets, shape.in_channels * m) * shape.kernel_rows * e
    sums = results_held * _banks(n * m * e * columns * WORD_BYTES, limits)
    inputs = _banks(n * input_words(shape, e, np.array(columns)) * WORD_BYTES, limits)
    fits = np.flatnonzero((sums + inputs <= limits.banks) & (active > 0))
    if not len(fits):
        return None
    busy = fits[active[fits] >= FEWEST_PES * active[fits].max()]
    moved = dram_words(shape, n[busy], m[busy], e[busy], columns)
    best = busy[np.lexsort((m[busy], -active[busy], moved))[0]]
    return int(n[best]), int(m[best]), int(e[best])


def _pass(
    part: RowMapping, sets: int, slots: int, limits: RowStationary, results_held: int
) -> RowMapping | None:
    """The (p, q, r, t) with the least buffer traffic whose inputs fit `slots` sets of banks."""
    shape = part.shape
    result_bytes = part.images * part.filters * part.rows * part.columns * WORD_BYTES
    sums = results_held * _banks(np.array(result_bytes), limits)
    per_channel = part.images * int(input_words(shape, np.array(part.rows), np.array(part.columns)))
    found: list[RowMapping] = []
    for r in range(1, min(sets, shape.in_channels) + 1):
        t = min(sets // r, part.filters)
        for q in range(1, min(limits.input_words // shape.kernel_columns, -(-shape.in_channels // r)) + 1):
            inputs = _banks(np.array(per_channel * q * r * WORD_BYTES), limits)
            p = min(limits.sum_words, limits.filter_words // (q * shape.kernel_columns))
            if sums + slots * inputs <= limits.banks and p >= 1:
                passes = -(-part.filters // (min(p, -(-part.filters // t)) * t))
                p = -(-part.filters // (passes * t))
                found.append(
                    replace(
                        part, pe_filters=p, pe_channels=q, channel_sets=r, filter_sets=t, input_slots=slots
                    )
                )
    most = max((mapping.active_pes for mapping in found), default=0)
    busy = [mapping for mapping in found if mapping.active_pes >= FEWEST_PES * most]
    return min(busy, key=lambda m: (buffer_bytes(m), -m.active_pes, m.channel_sets), default=None)


def input_words(shape: ConvShape, rows: Int64, columns: Int64) -> Int64:
    """Input words of one channel and image that result rows and columns depend on, padding included."""
    high = (rows - 1) * shape.row_stride + shape.kernel_rows
    return np.asarray(high * ((columns - 1) * shape.column_stride + shape.kernel_columns), np.int64)


def _read_words(shape: ConvShape, rows: Int64, columns: int) -> Int64:
    """Input words of one channel and image, read part by part: `rows` by `columns`, the last ones smaller."""
    strips, across = -(-shape.rows // rows), -(-shape.columns // columns)
    # A halo of (R - U) rows per strip and (S - U) columns per part.
    high = shape.rows * shape.row_stride + strips * (shape.kernel_rows - shape.row_stride)
    wide = shape.columns * shape.column_stride + across * (shape.kernel_columns - shape.column_stride)
    return np.asarray(high * wide, np.int64)


def dram_words(shape: ConvShape, images: Int64, filters: Int64, rows: Int64, columns: int) -> Int64:
    """Words between DRAM and chip, uncoded: filters once per part of the results, inputs once per share of the
    filters with the rows that parts have in common, results once."""
    parts = -(-shape.rows // rows) * -(-shape.columns // columns) * -(-shape.images // images)
    taps = shape.in_channels * shape.kernel_rows * shape.kernel_columns
    inputs = _read_words(shape, rows, columns) * shape.in_channels * shape.images
    results = shape.images * shape.out_channels * shape.rows * shape.columns
    return np.asarray(
        shape.out_channels * taps * parts + inputs * -(-shape.out_channels // filters) + results, np.int64
    )


def buffer_bytes(mapping: RowMapping) -> int:
    """Bytes read and written at the global buffer by the array in one layer.

    Sums are written and read once per group of q r channels, inputs read once per group of p t filters, filters once
    per part of the results. 1.2737 GB in the module's example (measured: 1214.8 MiB = 1.2738 GB).
    """
    shape, columns = mapping.shape, mapping.columns
    sums = shape.images * shape.out_channels * shape.rows * shape.columns
    rounds = -(-shape.in_channels // mapping.pass_channels)
    shares = -(-shape.out_channels // mapping.filters) * -(-mapping.filters // mapping.pass_filters)
    inputs = int(_read_words(shape, np.array(mapping.rows), columns)) * shape.in_channels * shape.images
    parts = -(-shape.rows // mapping.rows) * -(-shape.columns // columns) * -(-shape.images // mapping.images)
    taps = shape.in_channels * shape.kernel_rows * shape.kernel_columns
    return WORD_BYTES * (2 * sums * rounds + inputs * shares + shape.out_channels * taps * parts)


def tile_buffer_words(
    mapping: RowMapping, images: Int64, filters: Int64, rows: Int64, columns: Int64, channels: Int64
) -> tuple[Int64, Int64, Int64]:
    """(sums read and written, inputs, filters) in words that tiles of these sizes move at the buffer; the sizes are
    at most the mapping's and broadcast."""
    shape = mapping.shape
    rounds = -(-channels // mapping.pass_channels)
    passes = -(-filters // mapping.pass_filters)
    sums = 2 * images * filters * rows * columns * rounds
    inputs = images * channels * passes * input_words(shape, rows, columns)
    taps = filters * channels * shape.kernel_rows * shape.kernel_columns
    return np.asarray(sums), np.asarray(inputs), np.asarray(taps)


def pass_cycles(
    mapping: RowMapping,
    images: Int64,
    filters: Int64,
    rows: Int64,
    columns: Int64,
    channels: Int64,
    *,
    bytes_per_cycle: float,
) -> Int64:
    """Cycles the array is held by tiles of these sizes (at most the mapping's; they broadcast), all their passes.

    The formula of the module, once per p t filters and q r channels of the tile; the buffer moves `bytes_per_cycle`.
    """
    shape = mapping.shape
    passes = -(-filters // mapping.pass_filters) * -(-channels // mapping.pass_channels)
    p = -(-np.minimum(filters, mapping.pass_filters) // mapping.filter_sets)
    q = -(-np.minimum(channels, mapping.pass_channels) // mapping.channel_sets)
    window = p * q * shape.kernel_columns
    sums, inputs, taps = tile_buffer_words(mapping, images, filters, rows, columns, channels)
    loading = np.ceil(taps * WORD_BYTES / (bytes_per_cycle / 2))
    moving = np.ceil((sums + inputs) * WORD_BYTES / bytes_per_cycle)
    computing = passes * images * columns * window
    leaving = passes * (window + shape.kernel_rows * mapping.channel_sets)
    return np.asarray(loading + np.maximum(computing, moving) + leaving).astype(np.int64)


def layer_cycles(mapping: RowMapping, bytes_per_cycle: float) -> int:
    """Cycles the array is held by a whole layer of one group: the sum of `pass_cycles` over its tiles."""
    shape = mapping.shape
    sizes = [
        _tiles(extent, tile)
        for extent, tile in (
            (shape.images, mapping.images),
            (shape.out_channels, mapping.filters),
            (shape.rows, mapping.rows),
            (shape.columns, mapping.columns),
            (shape.in_channels, mapping.pass_channels),
        )
    ]
    grids = np.meshgrid(*(size for size, _ in sizes), indexing="ij")
    many = math.prod(np.meshgrid(*(count for _, count in sizes), indexing="ij"), start=np.int64(1))
    return int((pass_cycles(mapping, *grids, bytes_per_cycle=bytes_per_cycle) * many).sum())


def _tiles(extent: int, tile: int) -> tuple[Int64, Int64]:
    """Sizes of the tiles of an extent, and how many there are of each: the full ones and the last."""
    full, rest = divmod(extent, tile)
    found = [(tile, full)] * (full > 0) + [(rest, 1)] * (rest > 0)
    return tuple(np.array(column, np.int64) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _banks(size_bytes: Int64, limits: RowStationary) -> Int64:
    return np.asarray(-(-size_bytes // limits.bank_bytes), np.int64)


def _parts(extent: int) -> list[int]:
    """Sizes of the parts when an extent is cut into 1, 2, 3, ... parts."""
    return sorted({-(-extent // parts) for parts in range(1, extent + 1)})


def _shares(extent: int) -> list[int]:
    """Filters that may share the buffer: divisors of all filters, and powers of two."""
    divisors = {d for d in range(1, math.isqrt(extent) + 1) if extent % d == 0}
    powers = {1 << bit for bit in range(extent.bit_length())}
    return sorted(divisors | {extent // d for d in divisors} | powers)
