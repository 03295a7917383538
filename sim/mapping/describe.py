"""A mapped step in words and numbers: the operator rows of a program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sim.cost.actions import array_actions, row_stationary_actions, vector_actions
from sim.cost.online import OnlineProducts, online_actions
from sim.cost.products import Products
from sim.cost.work import accumulator_dtype
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind
from sim.mapping.loops import Loops
from sim.mapping.row_tiles import row_tiles, undefined
from sim.mapping.search import Tiling
from sim.mapping.step import Step
from sim.mapping.template import Work
from sim.program import OpRow

Int64 = npt.NDArray[np.int64]

LOW_UTILIZATION = 0.05
"""Below this share of an array's multipliers a mapping deserves a remark."""


def step_work(
    step: Step,
    loops: Loops,
    kind: CoreKind,
    products: Products | OnlineProducts | None,
    results: int,
    more: Mapping[str, float],
) -> Work:
    """What the tasks of a step do, whatever its tensors are called; `products` are those on arrays that are not
    row-stationary, `results` the elements that the step makes; `more` counts what only the tasks tell."""
    nest, tiling = step.nest, step.tiling
    core_macs = _core_macs(loops, products)
    macs = sum(core_macs.values())
    if isinstance(products, OnlineProducts):
        counts = online_actions(nest, kind, products)
    elif tiling.unit == "array":
        parts = len(loops.cores) // len(loops.owners)
        if tiling.rows is not None:
            tiles = row_tiles(nest, loops)
            counts = row_stationary_actions(nest, macs, tiling.rows.mapping, tiles, results, kind)
        else:
            assert products is not None
            counts = array_actions(nest, macs, products.sums, results, kind, parts)
    else:
        counts = vector_actions(nest, macs, results, _read_bytes(loops), kind)
        if tiling.deal is not None and tiling.deal.vector is not None:
            counts["access_instructions"] = tiling.deal.vector.instructions * results
    for name, count in more.items():
        counts[name] = counts.get(name, 0.0) + count
    return Work(counts, core_macs, tiling.tile(nest))


def describe_step(graph: Graph, step: Step, work: Work, kind: CoreKind, number: int) -> OpRow:
    """The row of one mapped nest; `number` is the input's."""
    nest, tiling, op = step.nest, step.tiling, graph.ops[step.op]
    dtype, counts = nest.operands[0].tensor.dtype, work.counts
    names = [dim.name for dim in nest.dims]
    mapping = {
        "unit": tiling.unit if nest.contraction or op.kind not in MOVES else "move",
        "cores": tiling.cores,
        "split": {name: parts for name, parts in zip(names, tiling.splits, strict=True) if parts > 1},
        "tile": dict(zip(names, work.tile, strict=True)),
        "order": " ".join(names[dim] for dim in tiling.order if tiling.steps[dim] > 1),
        "dataflow": tiling.dataflow if tiling.unit == "array" else "",
        "resident": [o.tensor.name for o, here in zip(nest.operands, step.resident, strict=True) if here],
        "staying": [o.tensor.name for index, o in enumerate(nest.operands) if tiling.stays(index)],
        "utilization": counts["macs"] / counts["array_peak_macs"] if tiling.unit == "array" else 0.0,
        "notes": _notes(op, step, kind, counts),
        "core_macs": dict(work.core_macs),
        **({"waves": tiling.deal.waves} if tiling.deal is not None else {}),
        **_row_facts(tiling),
        "estimate_s": tiling.latency_s,
    }
    macs = sum(work.core_macs.values())
    return OpRow(
        nest.name, _kind_name(op), dtype, accumulator_dtype(dtype), macs, dict(counts), mapping, number
    )


def _row_facts(tiling: Tiling) -> dict[str, object]:
    """Of a row-stationary array: PEs that have work, and the parameters of the mapping as the literature names them."""
    if tiling.rows is None:
        return {}
    mapping = tiling.rows.mapping
    return {"active_pes": mapping.active_pes, "row_stationary": mapping.text()}


def _core_macs(loops: Loops, products: Products | OnlineProducts | None) -> dict[int, int]:
    """Multiply-accumulates of each core, summed over its tiles: the check against the graph's rests on them.

    A transposed convolution's tiles count taps that fall between input rows; they are scaled to its nominal ones.
    """
    if not loops.nest.contraction:
        return {}
    if products is not None:
        work = products.macs.tolist()
    else:
        gemm = loops.gemm
        work = (gemm.count * gemm.m * gemm.n * gemm.k).sum(axis=1).tolist()
    if loops.nest.kind == "conv_transpose":
        nest, deal = loops.nest, loops.tiling.deal
        dense = math.prod(nest.extents) * nest.taps
        # The last wave of a dealt kernel is a step of its own, and takes what those before it leave.
        earlier = dense - sum(work) if deal is not None and deal.first else 0
        done = [nest.macs * (earlier + part) // dense for part in itertools.accumulate([0, *work])]
        work = [after - before for before, after in itertools.pairwise(done)]
    return dict(zip(loops.cores.tolist(), work, strict=True))


MOVES = frozenset({"transpose", "concat", "slice", "pad", "gather", "cache_update"})
"""Kinds that only move elements."""


def _kind_name(op: Op) -> str:
    """The kind as a user would say it."""
    if op.kind in ("elementwise", "pool", "reduce"):
        return str(op["function"]) if op.kind == "elementwise" else f"{op['function']} {op.kind}"
    if op.kind == "conv" and op["groups"] > 1:
        return "grouped conv"
    return op.kind


def _notes(op: Op, step: Step, kind: CoreKind, counts: Mapping[str, float]) -> list[str]:
    """What a reader should not have to find out alone."""
    found = []
    if step.tiling.cores < step.available:
        found.append(f"only {step.tiling.cores} of {step.available} cores have work")
    if step.nest.contraction and step.tiling.unit == "vector":
        why = "faster than the array here" if kind.array is not None else "this core has no array"
        if kind.array is not None and kind.array.row_stationary is not None:
            why = undefined(step.nest, kind.array) or "the array does not compute in its format"
        found.append(f"runs on the vector unit, {why}")
    elif step.tiling.rows is not None and kind.array is not None:
        mapping = step.tiling.rows.mapping
        found.append(f"{mapping.active_pes} of {kind.array.pe_count} PEs, {mapping.text()}")
    elif step.tiling.unit == "array" and counts["macs"] < LOW_UTILIZATION * counts["array_peak_macs"]:
        share = counts["macs"] / counts["array_peak_macs"]
        found.append(f"uses {share:.1%} of the array's multipliers while it runs")
    return found


def _read_bytes(loops: Loops) -> int:
    total = 0
    everyone, iterations = slice(None), np.arange(loops.iterations)
    for operand in loops.nest.operands:
        start, stop = loops.boxes(operand, everyone, iterations)
        total += int((stop - start).prod(axis=-1).sum()) * DTYPE_BITS[operand.tensor.dtype] // 8
    return total


def view_row(graph: Graph, op: Op, number: int) -> OpRow:
    """A view of memory, free and shown as such."""
    dtype = graph.tensors[op.output].dtype
    return OpRow(
        op.name, op.kind, dtype, accumulator_dtype(dtype), 0, {}, {"unit": "view", "cores": 0}, number
    )


def host_row(graph: Graph, tensor: str, direction: str, number: int) -> OpRow:
    """A transfer of a model input or output between host and DRAM."""
    dtype = graph.tensors[tensor].dtype
    mapping = {"unit": "host", "cores": 0}
    return OpRow(
        f"host {direction}: {tensor}",
        "host transfer",
        dtype,
        accumulator_dtype(dtype),
        0,
        {},
        mapping,
        number,
    )
