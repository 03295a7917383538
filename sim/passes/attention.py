"""Scores, softmax and values become one operator, as the fused kernels of every deployment compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sim.errors import InputError
from sim.graph.causal import CAUSAL
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.shapes import infer_shape
from sim.graph.tensor import Tensor
from sim.passes.attention_copies import fold_copies, only_writer, viewed


@dataclass(frozen=True, slots=True)
class Attended:
    """An attention as three operators and the copies of its operands and result (`stored`), and as one and perhaps
    views (`fused`), which take the places of those of their names; both in the order of the graph. `tensors` are those
    of another shape where it is one. `name` is that of its last product."""

    name: str
    stored: tuple[Op, ...]
    fused: tuple[Op, ...]
    tensors: Mapping[str, Tensor]


def attentions(graph: Graph) -> tuple[Attended, ...]:
    """The attentions of a graph whose element functions have been fused into their hosts (sim.passes.fuse): a product
    and its element functions, read by a softmax over its columns alone, read by a second product alone; all in one
    repeated block, and without a state that is written in between."""
    written: dict[str, int] = {}
    found = []
    for index, op in enumerate(graph.ops):
        if op.kind == "cache_update":
            written[op.result] = index
        if op.kind == "matmul":
            three = _three(graph, op)
            at = -1 if three is None else graph.producers[three[0].result]
            if three is not None and all(written.get(viewed(graph, name), -1) < at for name in three[0].operands):
                one = _attended(graph, *three)
                found += [one] if one is not None else []
    return tuple(found)


_FUSED: dict[tuple[int, frozenset[str]], tuple[Graph, Graph]] = {}
_MOST_FUSED = 64


def with_attention(graph: Graph, faster: Callable[[Graph, Graph], bool] = lambda fused, stored: True) -> Graph:
    """The graph with attentions as single operators: those of which `faster`(alone as one operator, alone as three)
    says so; the same object for the same choice."""
    def alone(one: Attended, fused: bool) -> Graph:
        return _alone(graph, one, fused=fused)

    found = [one for one in attentions(graph) if faster(alone(one, True), alone(one, False))]
    key = id(graph), frozenset(one.name for one in found)
    known = _FUSED.get(key)
    if known is None:
        if len(_FUSED) >= _MOST_FUSED:
            _FUSED.clear()
        # The entry keeps the graph alive, and with it its id.
        known = _FUSED[key] = graph, _fused(graph, found) if found else graph
    return known[1]


def fused_everywhere(parts: Sequence[tuple[Graph, int]]) -> list[tuple[Graph, int]]:
    """The parts of a model with all attentions as single operators. Raises InputError where there is none."""
    found = [(with_attention(one), count) for one, count in parts]
    if not any(op.kind == "attention" for part, _ in found for op in part.ops):
        raise InputError(f"attention: '{parts[0][0].name}' has none, a softmax between two products, to be fused")
    return found


def _fused(graph: Graph, found: Sequence[Attended]) -> Graph:
    ends = {op.name: op for one in found for op in one.fused}
    gone = {op.name for one in found for op in one.stored} - set(ends)
    ops = [ends.get(op.name, op) for op in graph.ops if op.name not in gone]
    tensors = {**graph.tensors, **{name: tensor for one in found for name, tensor in one.tensors.items()}}
    read = {name for op in ops for name in op.operands}
    # Nobody has to bring a mask that no operator reads.
    given = tuple(name for name in graph.inputs if name in read or name not in graph.causal)
    # Together: an operator and the shape of what it makes.
    return replace(graph, inputs=given, tensors=tensors).with_ops(ops)


def _three(graph: Graph, values: Op) -> tuple[Op, Op, Op] | None:
    """Scores, softmax and values of the attention that a product ends, if it does."""
    softmax = only_writer(graph, values.inputs[0])
    if softmax is None or softmax.kind != "softmax" or softmax["log"] or softmax.epilogue:
        return None
    scores = only_writer(graph, softmax.inputs[0])
    if scores is None or scores.kind != "matmul" or not scores.block == softmax.block == values.block:
        return None
    plain = len(scores.inputs) == len(values.inputs) == 2 and not (scores["transpose_a"] or values["transpose_a"])
    last = softmax["axis"] == len(graph.tensors[scores.result].shape) - 1
    if not plain or values["transpose_b"] or not last:
        return None
    return scores, softmax, values


def _attended(graph: Graph, scores: Op, softmax: Op, values: Op) -> Attended | None:
    """Those three as one, if their operands have the axes of an attention."""
    added = [step["function"] == "add" for step in scores.epilogue]
    # What is done to a hidden score but an addition (a cap, a factor below 0) may show it again.
    hides = [all(added[at:]) and step.inputs[1] in graph.causal for at, step in enumerate(scores.epilogue)]
    inputs, steps = [*scores.inputs, values.inputs[1]], []
    for step, hidden in zip(scores.epilogue, hides, strict=True):
        # The kernel knows what is ahead, and reads no mask.
        inputs += () if hidden else step.inputs[1:]
        steps.append((CAUSAL, ()) if hidden else (step["function"], step["parameters"]))
    attributes = {"transpose_b": scores["transpose_b"], "steps": tuple(steps), "sink": len(softmax.inputs) > 1}
    fused = replace(values, kind="attention", inputs=(*inputs, *softmax.inputs[1:]), attributes=attributes)
    if not _fits(fused, graph.tensors):
        return None
    folded = fold_copies(graph, fused)
    stored = sorted((scores, softmax, values, *folded.gone), key=lambda op: graph.producers[op.result])
    return Attended(values.name, tuple(stored), folded.ops, folded.tensors)


def _fits(op: Op, tensors: Mapping[str, Tensor]) -> bool:
    """Have queries, keys and values the axes of an attention?"""
    try:
        shape = infer_shape(op.kind, op.attributes, [tensors[name].shape for name in op.inputs])
    except ValueError:
        return False
    return shape == tensors[op.output].shape


def _alone(graph: Graph, one: Attended, *, fused: bool) -> Graph:
    """An attention by itself, as one operator or as several, its operands given: with the copies that the one needs
    not."""
    ops = one.fused if fused else one.stored
    made = {op.result for op in ops}
    names = dict.fromkeys(name for op in ops for name in op.operands if name not in made)
    inner = {step.output for op in ops for step in op.epilogue} | {op.output for op in ops}
    known = {**graph.tensors, **one.tensors} if fused else graph.tensors
    tensors = {name: known[name] for name in (*names, *inner, *made)}
    tensors |= {n: replace(tensors[n], role="input") for n in names if tensors[n].role == "activation"}
    given = tuple(name for name in names if tensors[name].role == "input")
    plain = tuple(replace(op, block=-1) for op in ops)
    return Graph("attention", tensors, plain, given, (ops[-1].result,), kernel=True)
