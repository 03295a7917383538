"""Loop nests as padded integer tables: what the compiled closed form (sim/cost/kernel.py) reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost.work import accumulator_bytes
from sim.graph.attention import MASKS, parts_of
from sim.graph.nest import DimRole, Nest, Operand
from sim.graph.tensor import DTYPE_BITS

Int64 = npt.NDArray[np.int64]

ROLES: tuple[DimRole, ...] = ("g", "m", "n", "k")
"""Their positions are the codes in `NestTables.role`."""

PARTS = ("left", "right", "unpack", "main", "epilogue", "out")
"""Their positions are the codes in column PART of `NestTables.operands`."""

# Columns of NestTables.nests; NESTED: are there nested pairs of loops? DEPTH and WIDTH of the heads of an attention (0:
# it is none).
DIMS, OPERANDS, TAPS, CONTRACTION, SUM_BYTES, NESTED, DEPTH, WIDTH = range(8)
NEST_COLUMNS = 8
# Columns of NestTables.operands: part of the nest, bits of an element, axes, those that a contiguous run may span,
# packed in tile order?, loops that move the box (bit mask), read once per result by the drain, or by that of an
# attention's scores?, may it stay in the scratchpad until the loops come back to it?
PART, BITS, AXES, RUN_AXES, PACKED, TOUCHES, PER_ELEMENT, STAYS = range(8)
# Columns of NestTables.axes.
SIZE, TERMS, LOW, HIGH, DENOMINATOR = range(5)


class NestTables(NamedTuple):
    """Nests as rows, everything int64.

    `nests` [nests, 8] and `operands` [nests, operands, 8] by the columns above, the result as the last operand;
    `extent`, `role`, `nested` [nests, dims] (loops; `nested` the outer loop of a nested pair, -1 without);
    `order` [nests, 2, dims] loops from the innermost, rows outside and columns outside;
    `axes` [nests, operands, axes, 5]; `terms` [nests, operands, axes, terms, 2] (loop, factor);
    `run_order` [nests, operands, axes] axes from the fastest in memory, `chain` [nests, operands, 4] the roles in the
    order in which their axes follow in it (-1 at the end), `home` [nests, operands, axes] the role that an axis
    without loops goes with, `of_roles` [nests, operands, axes] the roles that an axis has to do with (bit mask);
    `alone` [nests, 4]: is the role one loop and no kernel window?
    """

    nests: Int64
    extent: Int64
    role: Int64
    nested: Int64
    order: Int64
    operands: Int64
    axes: Int64
    terms: Int64
    run_order: Int64
    home: Int64
    of_roles: Int64
    chain: Int64
    alone: Int64


def nest_tables(nests: Sequence[Nest]) -> NestTables:
    """The tables of some nests (at least one). A size that differs between them is padded with zeros."""
    operands = [(*nest.operands, nest.out) for nest in nests]
    most_dims = max(len(nest.dims) for nest in nests)
    most_operands = max(map(len, operands))
    every = [operand for row in operands for operand in row]
    most_axes = max([1, *(len(operand.axes) for operand in every)])
    most_terms = max([1, *(len(axis.terms) for operand in every for axis in operand.axes)])
    of_operand = (len(nests), most_operands)
    tables = NestTables(
        np.zeros((len(nests), NEST_COLUMNS), np.int64),
        np.ones((len(nests), most_dims), np.int64),
        np.zeros((len(nests), most_dims), np.int64),
        np.full((len(nests), most_dims), -1, np.int64),
        np.zeros((len(nests), 2, most_dims), np.int64),
        np.zeros((*of_operand, 8), np.int64),
        np.zeros((*of_operand, most_axes, 5), np.int64),
        np.zeros((*of_operand, most_axes, most_terms, 2), np.int64),
        np.zeros((*of_operand, most_axes), np.int64),
        np.zeros((*of_operand, most_axes), np.int64),
        np.zeros((*of_operand, most_axes), np.int64),
        np.full((*of_operand, 4), -1, np.int64),
        np.zeros((len(nests), 4), np.int64),
    )
    for row, nest in enumerate(nests):
        _fill_loops(tables, row, nest)
        for place, operand in enumerate(operands[row]):
            _fill_operand(tables, row, place, operand, nest)
            _fill_chain(tables, row, place, operand, nest)
    return tables


def may_stay(nest: Nest) -> bool:
    """May operands stay until the loops come back to them? Neither rows that indices name nor what comes from other
    chips is known before, and an attention's scratchpads hold its shares and running results."""
    return nest.kind != "attention" and nest.chips == 1 and not any(operand.gathered for operand in nest.operands)


def _fill_loops(tables: NestTables, row: int, nest: Nest) -> None:
    dims = len(nest.dims)
    one = accumulator_bytes(nest.operands[0].tensor.dtype)
    heads = (0, 0) if nest.kind != "attention" else (parts_of(nest).depth, parts_of(nest).width)
    tables.nests[row] = (dims, len(nest.operands), nest.taps, nest.contraction, one, bool(nest.nested), *heads)
    tables.extent[row, :dims] = nest.extents
    tables.role[row, :dims] = [ROLES.index(dim.role) for dim in nest.dims]
    for outer, inner in nest.nested:
        tables.nested[row, inner] = outer
    for place, role in enumerate(ROLES):
        tables.alone[row, place] = len(nest.role(role)) == 1 and not (role == "k" and nest.taps > 1)
    rows, columns = nest.role("m"), nest.role("n")
    for place, middle in enumerate((rows + columns, columns + rows)):
        order = nest.role("g") + middle + nest.role("k")
        tables.order[row, place, :dims] = order[::-1]


def _fill_operand(tables: NestTables, row: int, place: int, operand: Operand, nest: Nest) -> None:
    order = operand.memory_order()
    run = order if operand.row_axes is None else order[len(order) - operand.row_axes :]
    packed = operand.tensor.role == "weight" and not operand.gathered
    tables.operands[row, place] = (
        PARTS.index(operand.part),
        DTYPE_BITS[operand.tensor.dtype],
        len(operand.axes),
        len(run),
        packed,
        sum(1 << dim for dim in operand.dims),
        _per_element(operand, place, nest),
        operand is not nest.out and may_stay(nest),
    )
    tables.run_order[row, place, : len(order)] = order[::-1]
    for index, axis in enumerate(operand.axes):
        tables.axes[row, place, index] = (axis.size, len(axis.terms), axis.low, axis.high, axis.denominator)
        for term, (dim, factor) in enumerate(axis.terms):
            tables.terms[row, place, index, term] = dim, factor


def _per_element(operand: Operand, place: int, nest: Nest) -> bool:
    """Does a drain read an element of an operand for each that it makes?"""
    if operand.part == "epilogue":
        return nest.per_result(operand)
    if nest.kind != "attention" or not MASKS <= place < len(nest.operands):
        return False
    scores = parts_of(nest).scores
    return scores.per_result(scores.epilogue[place - MASKS])


def _fill_chain(tables: NestTables, row: int, place: int, operand: Operand, nest: Nest) -> None:
    """Roles in the order in which their axes lie in memory, fastest first, and the role each whole axis goes with."""
    chain: list[int] = []
    waiting: list[int] = []
    last = ROLES.index("m")
    for index in operand.memory_order()[::-1]:
        terms = sorted(operand.axes[index].terms, key=lambda term: (term[1], nest.dims[term[0]].extent))
        roles = [ROLES.index(nest.dims[dim].role) for dim, _ in terms]
        waiting.append(index)
        if roles:
            chain += [role for role in dict.fromkeys(roles) if role not in chain]
            tables.home[row, place, waiting] = roles[0]
            waiting, last = [], roles[-1]
    tables.home[row, place, waiting] = last
    for index, axis in enumerate(operand.axes):
        roles = [ROLES.index(nest.dims[dim].role) for dim, _ in axis.terms] or [tables.home[row, place, index]]
        tables.of_roles[row, place, index] = sum({1 << int(role) for role in roles})
    tables.chain[row, place, : max(1, len(chain))] = chain or [last]


def signature(nest: Nest) -> tuple[object, ...]:
    """What the closed form depends on: the nest without names."""

    def shape(o: Operand) -> tuple[object, ...]:
        tensor = o.tensor
        of_tensor = (tensor.dtype, tensor.role == "weight", tensor.density)
        return (o.part, o.axes, o.channels_last, o.row_axes, o.window, *of_tensor)

    dims = tuple((dim.extent, dim.role) for dim in nest.dims)
    passes = (tuple(nest.own.items()), tuple(nest.drain.items()), tuple(nest.unpack.items()))
    return (
        nest.kind,
        dims,
        tuple(map(shape, nest.operands)),
        shape(nest.out),
        nest.taps,
        passes,
        nest.nested,
        nest.chips,
    )
