"""Element by element operators move into the drain of the operator whose result they work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sim.graph.graph import Graph
from sim.graph.op import CONTRACTIONS, Op

_HOSTS = CONTRACTIONS | {"elementwise", "batch_norm"}
"""Kinds that can apply an epilogue to each element on its way out."""

_COMMUTATIVE = frozenset({"add", "mul", "max", "min", "equal", "and", "or"})


def fuse_epilogues(graph: Graph) -> Graph:
    """Fuse activations, scales, residual sums and chains of them.

    An elementwise operator joins its host's epilogue when it alone reads the host's result, which is no output
    of the graph, keeps its shape, takes it as first operand (or the function is commutative, or a `where`, which then
    says which of its operands the running result is) and belongs to the same repeated block. The host moves to the
    place of the operator, where every further operand has been computed; it does not where it reads a state that is
    written in between.
    """
    fuser = _Fuser(graph)
    for op in graph.ops:
        fuser.add(op)
    kept = [op for op in fuser.ops if op is not None]
    return graph if len(kept) == len(graph.ops) else graph.with_ops(kept)


class _Fuser:
    """The operators so far, with None where one has moved on into a later one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops: list[Op | None] = []
        self.place: dict[str, int] = {}
        self.written: dict[str, int] = {}

    def add(self, op: Op) -> None:
        index = self._host(op) if op.kind == "elementwise" and not op.epilogue else None
        if index is not None:
            host = self.ops[index]
            assert host is not None
            self.ops[index] = None
            op = replace(host, epilogue=(*host.epilogue, _with_first(op, host.result)))
        if op.kind == "cache_update":
            self.written[op.result] = len(self.ops)
        self.place[op.result] = len(self.ops)
        self.ops.append(op)

    def _host(self, op: Op) -> int | None:
        """Place of the operator that `op` can join; of two, the later, whose result would wait less. A condition waits
        rather than what is chosen: it has a byte an element, and scores are to go on to their softmax."""
        if op["function"] == "where":
            chosen = self._latest(op, op.inputs[1:])
            return self._latest(op, op.inputs[:1]) if chosen is None else chosen
        return self._latest(op, op.inputs if op["function"] in _COMMUTATIVE else op.inputs[:1])

    def _latest(self, op: Op, candidates: Sequence[str]) -> int | None:
        places = [self.place[name] for name in candidates if name in self.place]
        return max((place for place in places if self._fits(op, place)), default=None)

    def _fits(self, op: Op, place: int) -> bool:
        host, graph = self.ops[place], self.graph
        if host is None or host.kind not in _HOSTS or host.block != op.block:
            return False
        return (
            op.inputs.count(host.result) == 1
            and len(graph.consumers[host.result]) == 1
            and host.result not in graph.outputs
            and graph.tensors[op.output].shape == graph.tensors[host.result].shape
            and all(self.written.get(name, -1) < place for name in host.operands)
        )


def _with_first(op: Op, name: str) -> Op:
    """The operator with `name` as its first input; the others keep their order."""
    inputs, at = (name, *(other for other in op.inputs if other != name)), op.inputs.index(name)
    if op["function"] == "where" and at:
        function = "keep_where" if at == 1 else "fill_where"
        return replace(op, inputs=inputs, attributes={**op.attributes, "function": function})
    return replace(op, inputs=inputs)
