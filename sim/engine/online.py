"""What the tasks of an attention compute: the online softmax, block of keys by block of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.attention import MASKS, VALUES, scored
from sim.graph.evaluate import evaluate_op
from sim.graph.nest import Nest
from sim.graph.op import Op
from sim.graph.places import RESULT, as_laid, as_listed, listed
from sim.graph.tile import drain_result

Array = npt.NDArray[Any]


def online_task(
    op: Op,
    nest: Nest,
    written: Sequence[tuple[str, bool, Sequence[int]]],
    operands: Mapping[int, Array],
    inside: Mapping[str, Array],
) -> list[Array]:
    """What one task writes: to tensors of the log or to the result, as (name, goes on: it is no finished result, where
    the box begins). `operands` are the tiles that it reads by number; `inside` what lies in slots by the ending of its
    name: .scores, .shares, .rows (of a softmax those of the block before) and .running, and sums of values without
    one."""
    kinds = [name.removeprefix(nest.out.tensor.name) for name, _, _ in written]
    (_, goes_on, at), *_ = written
    if ".scores" in kinds:
        q, k = (as_listed(nest.places, number, operands[number]) for number in (0, 1))
        return [np.asarray(q @ (k.swapaxes(-1, -2) if op["transpose_b"] else k))]
    if ".shares" in kinds:
        rest = [operands[number] for number in range(MASKS, len(nest.inputs))]
        keys = listed(nest.places, VALUES, nest.operands[VALUES].tensor.shape)[-2]
        more = keys - listed(nest.places, RESULT, nest.out.tensor.shape)[-2]
        scores, sink = scored(op, inside[".scores"], rest, (at[-2], at[-1], more), evaluate_op)
        made = dict(zip((".shares", ".rows"), _shares(scores, sink, inside.get(".rows")), strict=True))
        return [made[kind] for kind in kinds]
    if "" not in inside:
        values = as_listed(nest.places, VALUES, operands[VALUES])
        return [np.asarray(as_laid(nest.places, RESULT, inside[".shares"] @ values))]
    rows = inside[".rows"]
    sums = inside[""]
    factor, total = (as_laid(nest.places, RESULT, rows[..., at : at + 1]) for at in (2, 1))
    if goes_on and kinds == [""]:
        return [sums * factor]
    sums = inside[".running"] * factor + sums if ".running" in inside else sums
    if goes_on:
        return [sums]
    late = [operands[number] for number in range(len(nest.inputs), len(nest.operands))]
    return [drain_result(op, sums / total, late)]


def _shares(scores: Array, sink: Sequence[Array], before: Array | None) -> tuple[Array, Array]:
    """Exponentials relative to the largest score so far; of every row that, the total so far, and the factor on what
    was summed before."""
    shape = (*scores.shape[:-1], 1)
    if before is not None:
        largest, total = before[..., 0:1], before[..., 1:2]
    elif sink:
        largest, total = np.broadcast_to(sink[0], shape), np.ones(shape)
    else:
        largest, total = np.full(shape, -np.inf), np.zeros(shape)
    now = np.maximum(largest, scores.max(axis=-1, keepdims=True))
    # A row of which a mask of -inf has hidden all so far has no shares.
    base = np.where(np.isneginf(now), 0.0, now)
    factor, shares = np.exp(largest - base), np.exp(scores - base)
    return shares, np.concatenate([now, total * factor + shares.sum(axis=-1, keepdims=True), factor], axis=-1)
