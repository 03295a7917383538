"""The model as a graph of operators in topological order. Immutable; passes return a new one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sim.graph.causal import CAUSAL, Range, ranges
from sim.graph.op import CONTRACTIONS, ELEMENT_FUNCTIONS, Op
from sim.graph.places import listed
from sim.graph.tensor import INDEX_DTYPES, Tensor

if TYPE_CHECKING:
    import networkx as nx
    import numpy.typing as npt

    from sim.graph.nest import Nest


@dataclass(frozen=True)
class Graph:
    """`ops` is in topological order; `inputs` and `outputs` name tensors.

    `values` holds the numbers of weights where the source file had them; timing never needs them.
    `idle` names weights that are kept in memory although no operator of this pass reads them (experts that no token is
    sent to). `unit` names what one pass through the graph yields for one item of the batch (inference, token, step),
    `items` how many of them one pass makes. A `kernel` is a single operator rather than a model: its operands lie in
    DRAM before and after, and no host is involved. `warm` names inputs of a kernel that the kernel before has just
    written: a cache still holds what it can of them. `causal` names masks [S, T] that are added to scores and hide what
    is ahead: the last query sees all keys (sim/graph/causal.py).
    """

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)
    unit: str = "inferences"
    items: int = 1
    source: str = ""
    kernel: bool = False
    idle: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()
    causal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {name for name, tensor in self.tensors.items() if tensor.role != "activation"}
        for op in self.ops:
            for name in op.operands:
                if name not in known:
                    what = "is read before it is computed" if name in self.tensors else "does not exist"
                    raise ValueError(f"operator {op.name}: input {name!r} {what}")
            if op.result in known and op.kind != "cache_update":
                raise ValueError(f"operator {op.name}: output {op.result!r} is written twice")
            known.add(op.result)
        for op in self.ops:
            if op.view and op.inputs[0] in self.in_place:
                raise ValueError(f"operator {op.name}: {op.inputs[0]!r} is a part of a tensor, which has no views")
        for name in self.warm:
            if not self.kernel or name not in self.inputs:
                raise ValueError(f"{name!r} cannot be warm: it is no input of a kernel")
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"graph output {name!r} is computed by no operator")
            if name in self.in_place:
                raise ValueError(f"graph output {name!r} is a part of a tensor, which is written as a whole")

    @cached_property
    def chips(self) -> int:
        """How many chips run this graph in step, each its own share of the same items: 1 where nothing is exchanged."""
        return max((int(op["chips"]) for op in self.ops if op.kind == "all_reduce"), default=1)

    @cached_property
    def nests(self) -> tuple[tuple[Nest, ...], ...]:
        """Loop nests of every operator, tensors of convolutions channels-last."""
        from sim.graph.nest import channels_last, nests

        last = channels_last(self)
        return tuple(nests(op, self.tensors, last, self.in_place) for op in self.ops)

    @cached_property
    def planar_nests(self) -> tuple[tuple[Nest, ...], ...]:
        """Loop nests of every operator, tensors as planes, one per channel."""
        from sim.graph.nest import nests

        return tuple(nests(op, self.tensors, parts=self.in_place) for op in self.ops)

    @cached_property
    def in_place(self) -> Mapping[str, Op]:
        """The slices that are read where they lie, by their results."""
        return {op.output: op for op in self.ops if op.view and op.kind == "slice"}

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """Index of the operator that writes each computed tensor."""
        return {op.result: index for index, op in enumerate(self.ops)}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the operators that read each tensor, ascending."""
        found: dict[str, list[int]] = {}
        for index, op in enumerate(self.ops):
            for name in dict.fromkeys(op.operands):
                found.setdefault(name, []).append(index)
        return {name: tuple(indices) for name, indices in found.items()}

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one pass."""
        return sum(op_macs(op, self.tensors) for op in self.ops)

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of one pass: two per multiply-accumulate, one per vector pass."""
        return sum(op_flops(op, self.tensors) for op in self.ops)

    @cached_property
    def parameter_count(self) -> int:
        """Elements of the weights that some operator reads, or that are kept for another pass."""
        read = {name for op in self.ops for name in op.operands}.union(self.idle)
        return sum(t.elements for t in self.tensors.values() if t.role == "weight" and t.name in read)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights that some operator reads, or that are kept for another pass, in their dtypes."""
        read = {name for op in self.ops for name in op.operands}.union(self.idle)
        return sum(t.size_bytes for t in self.tensors.values() if t.role == "weight" and t.name in read)

    def with_dtype(self, dtype: str) -> Graph:
        """The same model with every tensor but indices, masks and packed weights in another number format."""
        packed = {name for op in self.ops if op.kind == "packed_matmul" for name in (op.inputs[1], *op.inputs[3:])}
        tensors = {
            name: tensor if tensor.dtype in INDEX_DTYPES or name in packed else replace(tensor, dtype=dtype)
            for name, tensor in self.tensors.items()
        }
        return replace(self, tensors=tensors)

    def with_density(self, density: float, by_name: Mapping[str, float]) -> Graph:
        """The same model with inputs and activations of this share of non-zero elements; `by_name` for some of them.

        Names of tensors that the model does not have are passed over.
        """
        tensors = {
            name: replace(tensor, density=by_name.get(name, density))
            if tensor.role in ("input", "activation")
            else tensor
            for name, tensor in self.tensors.items()
        }
        return replace(self, tensors=tensors)

    def with_ops(self, ops: Iterable[Op]) -> Graph:
        """The same model with other operators; tensors nobody mentions any more are dropped."""
        kept = tuple(ops)
        used = {name for op in kept for name in (*op.operands, op.output, op.result)}
        used |= {step.output for op in kept for step in op.epilogue}
        used.update(self.inputs, self.outputs, self.idle)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
        values = {name: value for name, value in self.values.items() if name in used}
        return replace(self, ops=kept, tensors=tensors, values=values)

    def to_networkx(self) -> nx.MultiDiGraph[int]:
        """Operators as nodes, by their place in `ops` (attributes `op`, an Op, and `macs`); every tensor that one
        operator makes and a later one reads as an edge (attributes `tensor`, its name, and `nbytes`)."""
        import networkx as nx

        digraph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
        for index, op in enumerate(self.ops):
            digraph.add_node(index, op=op, macs=op_macs(op, self.tensors))
            for name in dict.fromkeys(op.operands):
                if self.producers.get(name, index) < index:
                    digraph.add_edge(self.producers[name], index, tensor=name, nbytes=self.tensors[name].size_bytes)
        return digraph


@dataclass(frozen=True)
class Passes:
    """Several graphs run one after another, each a number of times: a prefill, then decode steps.

    Read like one graph where sums are wanted (`macs`, `items`); `items` counts what all passes yield together.
    """

    name: str
    parts: tuple[tuple[Graph, int], ...]
    unit: str
    items: int

    @property
    def source(self) -> str:
        """The file the model came from, if any."""
        return self.parts[0][0].source

    @property
    def chips(self) -> int:
        """How many chips run the passes in step; see Graph."""
        return max(graph.chips for graph, _ in self.parts)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all passes together."""
        return sum(graph.macs * count for graph, count in self.parts)

    @property
    def parameter_count(self) -> int:
        """Elements of the weights, which the passes share."""
        return max(graph.parameter_count for graph, _ in self.parts)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, which the passes share."""
        return max(graph.weight_bytes for graph, _ in self.parts)

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operators of every graph once, in order."""
        return tuple(op for graph, _ in self.parts for op in graph.ops)


def op_macs(op: Op, tensors: Mapping[str, Tensor]) -> int:
    """Multiply-accumulates of one operator; 0 for kinds that are not contractions."""
    if op.kind == "conv":
        weight = tensors[op.inputs[1]].shape
        return tensors[op.output].elements * math.prod(weight[1:])
    if op.kind == "conv_transpose":
        weight = tensors[op.inputs[1]].shape
        return tensors[op.inputs[0]].elements * math.prod(weight[1:])
    if op.kind in ("matmul", "packed_matmul"):
        left = tensors[op.inputs[0]].shape
        return tensors[op.output].elements * left[-2 if op.attributes.get("transpose_a") else -1]
    if op.kind == "attention":
        q, _, v = attention_shapes(op, tensors)
        scores = math.prod(q[:-2]) * sum((r.stop - r.first) * r.keys for r in attention_ranges(op, tensors))
        return scores * (q[-1] + v[-1])
    return 0


def attention_shapes(op: Op, tensors: Mapping[str, Tensor]) -> tuple[tuple[int, ...], ...]:
    """Shapes of queries, keys and values, their axes as an attention lists them."""
    places = op.attributes.get("places", ())
    return tuple(listed(places, number, tensors[op.inputs[number]].shape) for number in range(3))


def attention_ranges(op: Op, tensors: Mapping[str, Tensor]) -> tuple[Range, ...]:
    """The ranges of queries of an attention."""
    causal = any(function == CAUSAL for function, _ in op["steps"])
    q, _, v = attention_shapes(op, tensors)
    return ranges(q[-2], v[-2], causal)


def score_passes(op: Op, part: Range) -> Mapping[str, float]:
    """Primitive vector passes per score of a range of queries of an attention: its steps, then what a softmax takes
    before it divides, which is left to the sums of values (Milakov and Gimelshein, Online normalizer calculation for
    softmax, 2018). What is ahead is compared and left out where only some of the queries see it."""
    passes = {name: float(count) for name, count in _FIXED_PASSES["softmax"].items() if name != "mul"}
    hiding = {"compare": part.partly_hidden, "select": part.partly_hidden}
    for function, _ in op["steps"]:
        for name, count in (hiding if function == CAUSAL else ELEMENT_FUNCTIONS[function]).items():
            passes[name] = passes.get(name, 0.0) + count
    return passes


def unpack_passes(op: Op, tensors: Mapping[str, Tensor]) -> Mapping[str, float]:
    """Primitive vector passes by which one packed weight becomes a number of the activations' format: it is converted
    and scaled, (q - z) s = q s - z s with the zero point in one multiply-add. A scale for a whole column leaves the sum
    (`op_passes`), its zero point does not."""
    if op.kind != "packed_matmul":
        return {}
    if _scaled_behind(op, tensors):
        return {"convert": 1.0, "add": 1.0} if len(op.inputs) > 3 else {"convert": 1.0}
    return {"convert": 1.0, "multiply_add": 1.0} if len(op.inputs) > 3 else {"convert": 1.0, "mul": 1.0}


def _scaled_behind(op: Op, tensors: Mapping[str, Tensor]) -> bool:
    return bool(op["group"] >= tensors[op.inputs[0]].shape[-1])


def op_passes(op: Op, tensors: Mapping[str, Tensor]) -> Mapping[str, float]:
    """Primitive vector passes per element of the operator's own result (its epilogue not counted).

    Reductions count per output element; a contraction's own passes are its bias add. Copies are counted:
    moving a tensor through the vector unit is work. Source: the textbook definition of each function.
    """
    out = tensors[op.output]
    if op.kind == "elementwise":
        return ELEMENT_FUNCTIONS[op["function"]]
    if op.kind in ("pool", "reduce"):
        window = (
            math.prod(op["kernel"]) if op.kind == "pool" else tensors[op.inputs[0]].elements // out.elements
        )
        if op["function"] in ("argmax", "argmin"):
            return {"compare": float(window), "select": float(window)}
        step = {"max": "compare", "min": "compare", "prod": "mul"}.get(op["function"], "add")
        scale = {"mul": 1.0} if op["function"] in ("average", "mean") else {}
        return {step: float(window), **scale} if step != "mul" else {"mul": window + scale.get("mul", 0.0)}
    if op.kind in _FIXED_PASSES:
        return _FIXED_PASSES[op.kind]
    if op.kind == "packed_matmul":
        return {"mul": 1.0} if _scaled_behind(op, tensors) else {}
    if op.kind == "attention":
        found = {"mul": 1.0}
        q, _, v = attention_shapes(op, tensors)
        for part in attention_ranges(op, tensors):
            share = (part.stop - part.first) * part.keys / (q[-2] * v[-1])
            for name, count in score_passes(op, part).items():
                found[name] = found.get(name, 0.0) + count * share
        return found
    if op.kind in CONTRACTIONS:
        return {"add": 1.0} if len(op.inputs) > 2 else {}
    if op.kind == "lrn":
        return {"mul": float(op["size"]) + 2.0, "add": float(op["size"]), "log": 1.0, "exp": 1.0}
    if op.kind == "resize" and op["mode"] != "nearest":
        corners = (2.0 if op["mode"] == "linear" else 4.0) ** (len(out.shape) - 2)
        return {"mul": corners, "add": corners - 1.0}
    if op.view:
        return {}
    if op.kind == "all_reduce":
        # Every chip adds up one of as many pieces as there are chips, chips - 1 times.
        return {"add": (op["chips"] - 1) / op["chips"]}
    if op.kind == "topk":
        return _selection_passes(tensors[op.inputs[0]].shape[op["axis"]], op["k"], op["indices"])
    if op.kind == "scatter":
        each = tensors[op.inputs[1]].elements / tensors[op.inputs[0]].shape[0]
        step = {"none": "select", "add": "add", "mul": "mul"}.get(op["reduction"], "compare")
        return {"copy": 1.0, step: each}
    return {"copy": 1.0}


def _selection_passes(length: int, k: int, places: bool) -> Mapping[str, float]:
    """Passes per result of the k largest of a row, in order: bitonic runs of k are sorted, then halved in number by
    keeping the larger of each pair, which leaves runs that one merge sorts again (Shanbhag, Pirk and Madden, Efficient
    Top-K Query Processing on Massively Parallel Hardware, SIGMOD 2018). Places are moved along with what they are of.

    The 2 largest of 8: 8 comparisons for runs of 2, then 2 for each of the 6 elements that drop out: 10 per result.
    """
    depth = math.ceil(math.log2(k))
    compared = (length * depth * (depth + 1) / 2 + (length - k) * (depth + 1)) / k
    compared = max(compared, 1.0)  # all of one element: it is still looked at
    return {"compare": compared, "select": compared} if places else {"compare": compared}


_FIXED_PASSES: Mapping[str, Mapping[str, float]] = {
    # max, subtract, exponential, sum, scale
    "softmax": {"compare": 1.0, "add": 2.0, "exp": 1.0, "mul": 1.0},
    # mean, centred square, variance, normalise, scale, shift
    "layer_norm": {"add": 4.0, "mul": 3.0},
    "rms_norm": {"add": 1.0, "mul": 3.0},
    "group_norm": {"add": 4.0, "mul": 3.0},
    "batch_norm": {"mul": 1.0, "add": 1.0},
    "rope": {"mul": 2.0, "add": 1.0},
    # up-sweep and down-sweep: Blelloch, Prefix Sums and Their Applications, 1990
    "scan": {"add": 2.0},
}


def op_flops(op: Op, tensors: Mapping[str, Tensor]) -> int:
    """Two per multiply-accumulate, one per vector pass that computes (copies and converts count nothing)."""
    total = 2.0 * op_macs(op, tensors)
    for step in (op, *op.epilogue):
        passes = sum(n for name, n in op_passes(step, tensors).items() if name not in ("copy", "convert"))
        total += passes * tensors[step.output].elements
    return int(total)
