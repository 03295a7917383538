"""What every nest takes on every kind of cores whatever its tiling: cycles and joules of its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.config import changed_ns
from sim.cost.designs import Designs
from sim.cost.element_passes import body_passes, drain_passes
from sim.cost.energy import COMPUTED_AS
from sim.cost.online import row_passes
from sim.cost.work import accumulator_dtype, unpack_cost, vector_cost
from sim.graph.attention import LAST_PASSES, parts_of
from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind
from sim.hw.technology import Technology, load_technology
from sim.hw.vector import FUNCTIONS

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# Columns of a table: cycles per element and lane of the whole nest on the vector unit and of what is applied behind an
# array; joules and passes of the whole nest on the vector unit; on arrays joules of the products, bytes into
# registers, joules and passes of what follows; joules of one addition and one copy of a partial sum; of one packed
# weight on its way to an array cycles of a lane, joules and passes; the same of an attention: of a score (cycles
# alone), a row and block of keys, a sum of values that is added to the running result, a finished row (cycles alone).
(
    BODY_CYCLES, DRAIN_CYCLES, ON_VECTOR_J, ON_VECTOR_PASSES, MAC_J, REGISTER_BYTES, DRAIN_J, DRAIN_PASSES, ADD_J,
    COPY_J, UNPACK_CYCLES, UNPACK_J, UNPACK_PASSES, SHARE_CYCLES, ROW_CYCLES, ROW_J, ROW_PASSES, MERGE_CYCLES, MERGE_J,
    MERGE_PASSES, LAST_CYCLES,
) = range(21)  # fmt: skip
WORK = 21

_TABLES: dict[tuple[object, ...], tuple[tuple[Nest, ...], Float64]] = {}
_MOST_TABLES = 256


def work_tables(nests: tuple[Nest, ...], designs: Designs) -> tuple[Float64, Int64]:
    """Tables [tables, nests, WORK] of one run of each nest, and which of them each kind of cores [designs, kinds] has:
    it depends on the vector unit's passes, special lanes and conversions, on what the array unpacks and on the
    technology. A core that is absent has the first. Raises InputError on an unknown technology."""
    kinds = max(len(chip.cores) for chip in designs.chips)
    numbers: dict[tuple[object, ...], int] = {}
    tables: list[Float64] = []
    of_chip = np.zeros((len(designs.chips), kinds), np.int64)
    for row, chip in enumerate(designs.chips):
        for column, kind in enumerate(chip.cores):
            unpacks = () if kind.array is None else kind.array.unpacks
            node = chip.technology, changed_ns(chip.technology)
            unit = kind.vector
            key = (*node, unpacks, unit.lanes, unit.special, *unit.passes.items(), *unit.conversions.items())
            if key not in numbers:
                numbers[key] = len(tables)
                tables.append(_table(nests, kind, chip.technology, key))
            of_chip[row, column] = numbers[key]
    return np.stack(tables), of_chip[designs.chip_of]


def _table(nests: tuple[Nest, ...], kind: CoreKind, technology: str, key: tuple[object, ...]) -> Float64:
    """One table, made once for the nests of a model: the entry keeps them alive, and with them their id."""
    known = _TABLES.get((id(nests), *key))
    if known is None:
        if len(_TABLES) >= _MOST_TABLES:
            _TABLES.clear()
        made = np.array([_row(nest, kind, load_technology(technology)) for nest in nests])
        known = _TABLES[(id(nests), *key)] = nests, made
    return known[1]


def _row(nest: Nest, kind: CoreKind, technology: Technology) -> Sequence[float]:
    dtype, results = nest.operands[0].tensor.dtype, _results(nest)
    body, drain = body_passes(nest, kind), drain_passes(nest, kind)
    joules, passes, cycles = _passes(body, kind, technology, dtype)
    found = [0.0] * WORK
    found[BODY_CYCLES], found[ON_VECTOR_J], found[ON_VECTOR_PASSES] = cycles, results * joules, results * passes
    sums = accumulator_dtype(dtype)
    joules, passes, found[DRAIN_CYCLES] = _passes(drain, kind, technology, sums)
    if nest.contraction:
        found[MAC_J] = nest.macs * technology.mac_energy_j(COMPUTED_AS.get(dtype, dtype))
        found[REGISTER_BYTES] = nest.macs * (DTYPE_BITS[dtype] + DTYPE_BITS[sums]) / 8
        found[DRAIN_J], found[DRAIN_PASSES] = results * joules, results * passes
        found[ADD_J], *_ = _passes({"add": 1.0}, kind, technology, sums)
        found[COPY_J], *_ = _passes({"copy": 1.0}, kind, technology, sums)
        if unpack_cost(nest, kind):
            found[UNPACK_J], found[UNPACK_PASSES], found[UNPACK_CYCLES] = _passes(nest.unpack, kind, technology, sums)
    if nest.kind == "attention":
        _fill_attention(nest, kind, technology, sums, found)
    return found


def _fill_attention(nest: Nest, kind: CoreKind, technology: Technology, sums: str, found: list[float]) -> None:
    """What lanes do to scores, rows, sums of values and finished rows; see sim.cost.online.online_actions."""
    parts = parts_of(nest)
    joules, passes, found[SHARE_CYCLES] = _passes(drain_passes(parts.scores, kind), kind, technology, sums)
    rows = math.prod(nest.extents) // nest.dims[nest.role("k")[0]].extent
    last_joules, last_passes, found[LAST_CYCLES] = _passes(LAST_PASSES, kind, technology, sums)
    found[DRAIN_J] += math.prod(nest.extents) * joules + rows * last_joules
    found[DRAIN_PASSES] += math.prod(nest.extents) * passes + rows * last_passes
    found[ROW_J], found[ROW_PASSES], found[ROW_CYCLES] = _passes(row_passes(kind), kind, technology, sums)
    merge = drain_passes(parts.values, kind)
    found[MERGE_J], found[MERGE_PASSES], found[MERGE_CYCLES] = _passes(merge, kind, technology, sums)


def _results(nest: Nest) -> int:
    """Elements that a nest makes."""
    ones = [np.ones((), np.int64) * dim.extent for dim in nest.dims]
    total = 1
    for axis in nest.out.axes:
        total *= int(axis.extent(ones))
    return total


def _passes(
    passes: Mapping[str, float], kind: CoreKind, technology: Technology, dtype: str
) -> tuple[float, float, float]:
    """Joules, passes, and cycles of a lane of a mix over one element."""
    dtype = COMPUTED_AS.get(dtype, dtype)
    joules = total = 0.0
    for name, elements in passes.items():
        count = elements * kind.vector.passes_of(name)
        total += count
        joules += count * technology.vector_energy_j(FUNCTIONS[name].kind, dtype)
    return joules, total, vector_cost(passes, kind)
