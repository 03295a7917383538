"""What the cache is used for: which tensors go through it, and where they lie in every repeat of a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.errors import DoesNotFit, InputError, did_you_mean
from sim.graph.graph import Graph
from sim.graph.nest import Operand
from sim.hw.cache import Cache
from sim.hw.chip import Chip
from sim.hw.tags import skew_of
from sim.mapping.allocate import Layout
from sim.mapping.memo import Recent
from sim.mapping.segments import Segments, runs_of_blocks
from sim.mapping.staying import returns
from sim.mapping.step import Step
from sim.program import Policy

Int64 = npt.NDArray[np.int64]

_POLICIES = {"cache": Policy.CACHE, "bypass": Policy.BYPASS, "pin": Policy.PIN}
_ROLES = {"weight": "weights", "input": "inputs", "state": "states", "activation": "activations"}


@dataclass(frozen=True, slots=True)
class Carried:
    """A result that each repeat of a block hands to the next: `source` is what the first repeat reads, `result` what
    it writes, of the same size (both roots). The repeats take turns at the memory of the two."""

    segment: int
    source: str
    result: str


@dataclass(frozen=True)
class Blocks:
    """Tensors (roots) of repeated blocks. `instances[segment][root]` names it in every repeat of the segment,
    `first_of[root]` is the one of the first repeat for that of any other."""

    instances: Mapping[int, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    first_of: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    carried: tuple[Carried, ...] = ()


def repeated_tensors(graph: Graph, segments: Segments, roots: Mapping[str, str]) -> Blocks:
    """Who is who in the repeats of every block: operators of the same place read and write tensors of the same
    place."""
    found: dict[int, dict[str, list[str]]] = {}
    first_of: dict[str, tuple[str, int]] = {}
    segment, begin_of_first, repeat = -1, 0, 0
    for _, begin, end in runs_of_blocks(graph):
        if segments.of_op[begin] >= 0:
            segment, begin_of_first, repeat = segments.of_op[begin], begin, 0
        else:
            repeat += 1
        mine = graph.ops[begin_of_first : begin_of_first + end - begin]
        instances = found.setdefault(segment, {})
        for op, other in zip(mine, graph.ops[begin:end], strict=True):
            for a, b in zip((*op.operands, op.result), (*other.operands, other.result), strict=True):
                root, name = roots.get(a, a), roots.get(b, b)
                names = instances.setdefault(root, [])
                if len(names) == repeat:
                    names.append(name)
            if repeat:
                first_of.setdefault(
                    roots.get(other.result, other.result), (roots.get(op.result, op.result), repeat)
                )
    carried = []
    for number, instances in found.items():
        by_first: dict[str, str] = {}
        for root, names in instances.items():
            if names:
                by_first.setdefault(names[0], root)
        for root, names in instances.items():
            result = by_first.get(names[1]) if len(names) > 1 else None
            if result is not None and result != root and graph.tensors[names[1]].role == "activation":
                carried.append(Carried(number, root, result))
    frozen = {number: {root: tuple(names) for root, names in i.items()} for number, i in found.items()}
    return Blocks(frozen, first_of, tuple(carried))


_BLOCKS: Recent[object, tuple[Graph, Blocks, frozenset[str]]] = Recent(1 << 6)


def blocks_of(graph: Graph, segments: Segments, roots: Mapping[str, str]) -> tuple[Blocks, frozenset[str]]:
    """`repeated_tensors` and their `block_starts`: no chip changes them."""
    key = id(graph), segments, tuple(roots.items())
    known = _BLOCKS.get(key)
    if known is None:
        blocks = repeated_tensors(graph, segments, roots)
        # The entry keeps the graph alive, and with it its id.
        known = _BLOCKS[key] = graph, blocks, block_starts(graph, blocks)
    return known[1:]


def block_starts(graph: Graph, blocks: Blocks) -> frozenset[str]:
    """The first tensor in memory of each repeat of a block, of those that each repeat has its own of."""
    found = set()
    place = {name: number for number, name in enumerate(graph.tensors)}
    for instances in blocks.instances.values():
        own = [
            names
            for root, names in instances.items()
            if graph.tensors[root].role != "activation" and len(set(names)) == len(names) > 1
        ]
        for repeat in range(min(map(len, own), default=0)):
            found.add(min((names[repeat] for names in own), key=lambda name: place[name]))
    return frozenset(found)


def taking_turns(
    blocks: Blocks, segments: Segments, steps: Sequence[Step], roots: Mapping[str, str]
) -> list[tuple[str, str, int, int]]:
    """(source, result, first step, last step) of what repeats of a block hand on: both keep their memory from the
    first step of the segment to the last step that reads the result of the last repeat."""
    found = []
    for pair in blocks.carried:
        mine = [at for at, step in enumerate(steps) if segments.of_op[step.op] == pair.segment]
        final = blocks.instances[pair.segment][pair.result][-1]
        readers = [
            at
            for at, step in enumerate(steps)
            if any(roots.get(o.tensor.name, o.tensor.name) == final for o in step.nest.operands)
        ]
        if mine:
            found.append((pair.source, pair.result, mine[0], max([mine[-1], *readers])))
    return found


@dataclass(frozen=True)
class Caching:
    """The plan for the cache. `policy` has the roots whose transfers probe it; all others leave it alone and share no
    address with these. `layout` is that of the DRAM."""

    policy: Mapping[str, Policy]
    layout: Layout
    blocks: Blocks

    def address(self, root: str, repeat: int = 0) -> int:
        """Where a tensor lies: what is handed on in turns, results of repeats where those of the first one lie."""
        where = self.layout.address_bytes
        for pair in self.blocks.carried:
            if root in (pair.source, pair.result) and {pair.source, pair.result} <= where.keys():
                swap = pair.result if root == pair.source else pair.source
                return where[swap if repeat % 2 else root]
        if root not in where and root in self.blocks.first_of:
            return self.address(*self.blocks.first_of[root])
        return where[root]

    def shift(self, segment: int, names: Sequence[str], repeats: int) -> Int64:
        """What to add to the address of each tensor (roots) in every repeat of a segment, [repeats, names]."""
        table = np.zeros((repeats, len(names)), np.int64)
        instances = self.blocks.instances.get(segment, {})
        for column, root in enumerate(names):
            others = instances.get(root, ())
            for repeat in range(min(repeats, len(others))):
                known = others[repeat] in self.layout.address_bytes
                name, turn = (others[repeat], 0) if known and others[repeat] != root else (root, repeat)
                table[repeat, column] = self.address(name, turn) - self.address(root)
        return table


def plan_caching(
    graph: Graph, chip: Chip, steps: Sequence[Step], roots: Mapping[str, str], layout: Layout, blocks: Blocks
) -> Caching | None:
    """Which tensors go through the chip's cache; None where it has none.

    What the chip file leaves to `auto` goes through it if it is read after it was written or read before: results
    that an operator loads, and weights, inputs and states that a step loads again and again or several steps load.
    Results for the user alone bypass, and so do gathered tensors, as their addresses are data. Raises InputError for
    a tensor the model does not have, DoesNotFit where the pinned ones do not fit.
    """
    if chip.cache is None:
        return None
    cache = chip.cache
    for name in cache.policy.tensors:
        if name not in graph.tensors:
            hint = did_you_mean(name, graph.tensors)
            raise InputError(
                f"cache.policy.tensors: '{graph.name}' has no tensor '{name}'" + (f"; {hint}" if hint else "")
            )
    again = _read_again(steps, roots)
    read = {roots.get(name, name) for op in graph.ops for name in op.operands}
    read |= {first for name, (first, _) in blocks.first_of.items() if name in read}
    gathered = {
        roots.get(o.tensor.name, o.tensor.name) for step in steps for o in step.nest.operands if o.gathered
    }
    single = {roots.get(name, name): given for name, given in cache.policy.tensors.items()}
    wanted: dict[str, Policy] = {}
    for root in {roots.get(name, name): None for name in graph.tensors}:
        role = graph.tensors[root].role
        given = single.get(root, "auto")
        if given == "auto":
            given = getattr(cache.policy, _ROLES[role])
        if given == "auto":
            given = "cache" if root in again or (role == "activation" and root in read) else "bypass"
        wanted[root] = Policy.BYPASS if root in gathered else _POLICIES[given]
    _check_pins(cache, [name for name, policy in wanted.items() if policy == Policy.PIN], layout)
    return Caching(_probing(wanted, layout), layout, blocks)


def _read_again(steps: Sequence[Step], roots: Mapping[str, str]) -> set[str]:
    """Roots that are loaded more than once: by several steps, or several times in one."""
    loaded: set[str] = set()
    again: set[str] = set()
    for step in steps:
        mine = set()
        for index, (operand, here) in enumerate(zip(step.nest.operands, step.resident, strict=True)):
            root = roots.get(operand.tensor.name, operand.tensor.name)
            if not here:
                if root in loaded or root in mine or _reloads(step, index, operand):
                    again.add(root)
                mine.add(root)
        loaded |= mine
    return again


def _reloads(step: Step, index: int, operand: Operand) -> bool:
    """Does the step load some element of operand number `index` twice: in another pass of its loops, or in the overlap
    of tiles that lie side by side?"""
    tiling = step.tiling
    if tiling.deal is not None:
        return True  # every tile of the result loads its operands anew
    if returns(tiling, operand) and not tiling.stays(index):
        return True
    return any(
        tiling.steps[dim] * tiling.splits[dim] > 1 and axis.high - axis.low >= factor
        for axis in operand.axes
        for dim, factor in axis.terms
    )


def _check_pins(cache: Cache, pinned: Sequence[str], layout: Layout) -> None:
    """One way of every set stays free for everything else."""
    lines = np.zeros(cache.sets, np.int64)
    total = 0
    for name in pinned:
        if name not in layout.address_bytes:
            continue
        first = layout.address_bytes[name] // cache.line_bytes
        last = (layout.address_bytes[name] + max(1, layout.size_bytes[name]) - 1) // cache.line_bytes
        total += layout.size_bytes[name]
        lines += (last - first + 1) // cache.sets
        rest = first + np.arange((last - first + 1) % cache.sets)
        np.add.at(lines, (rest + rest // cache.sets * skew_of(cache.sets, cache.hashed)) % cache.sets, 1)
    if lines.max(initial=0) > cache.ways - 1:
        raise DoesNotFit(
            f"what cache.policy pins ({len(pinned)} tensors)",
            max(total, int(lines.max()) * cache.sets * cache.line_bytes),
            (cache.ways - 1) * cache.sets * cache.line_bytes,
            "the cache, one way of each set left to the rest",
            ("a larger cache.size", "more cache.ways", "policy cache instead of pin for some tensors"),
        )


def _probing(wanted: Mapping[str, Policy], layout: Layout) -> dict[str, Policy]:
    """Tensors that may find lines in the cache: those that put them there, and those that share memory with one that
    does, at another time."""
    placed = [name for name in wanted if name in layout.address_bytes]
    low = np.array([layout.address_bytes[name] for name in placed], np.int64)
    high = low + np.array([layout.size_bytes[name] for name in placed], np.int64)
    allocating = np.array([wanted[name] != Policy.BYPASS for name in placed], np.bool_)
    order = np.argsort(low[allocating])
    reach = np.maximum.accumulate(np.concatenate([[-1], high[allocating][order]]))
    # Of those that begin before the end of a tensor, does one reach into it?
    near = reach[np.searchsorted(low[allocating][order], high)] > low
    sharing = {name for name, met in zip(placed, near.tolist(), strict=True) if met}
    return {name: policy for name, policy in wanted.items() if policy != Policy.BYPASS or name in sharing}
