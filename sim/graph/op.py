"""An operator: what is computed, from which tensors, with which attributes.

The attributes of every kind, all plain ints, floats, strings, booleans or tuples of these. Axes count from 0
and are never negative. Activations of convolutions and pools are `[N, C, *spatial]`.

| kind | inputs | attributes |
|---|---|---|
| conv | x [N,C,*S], w [O,C/groups,*kernel], bias [O]? | kernel, stride, dilation, pads, groups |
| conv_transpose | x [N,C,*S], w [C,O/groups,*kernel], bias [O]? | as conv, and output_pad |
| matmul | a [*,M,K], b [*,K,N], bias [N]? | transpose_a, transpose_b (last two axes); batch axes broadcast |
| packed_matmul | a [*,M,K], b [K,N], scale [ceil(K/group),N], zero? | transpose_b (b, scale, zero: [N,.]), group |
| attention | q [*,S,D], k [*,T,D], v [*,T,E], of steps, sink? | transpose_b (else k [*,D,T]), steps, sink, places? |
| pool | x [N,C,*S] | function (max, average), kernel, stride, dilation, pads, count_include_pad |
| reduce | x | function (sum, mean, max, min, prod, and of one axis argmax, argmin), axes, keepdims, last? (of ties) |
| elementwise | 1 to 3 tensors, broadcast | function (see ELEMENT_FUNCTIONS), parameters (tuple of floats) |
| softmax | x, sink? (broadcasts, 1 along the axis: adds its exponential to the total) | axis, log (bool) |
| layer_norm | x, scale?, bias? | axis (first normalised axis; all from there on), epsilon |
| rms_norm | x, scale? | axis, epsilon |
| group_norm | x [N,C,*S], scale [C]?, bias [C]? | groups, epsilon (instance norm: groups = C) |
| batch_norm | x [N,C,*S], scale, bias, mean, variance, each [C] | epsilon |
| lrn | x [N,C,*S] | size, alpha, beta, bias |
| rope | x [..., S, D], cos [S, D/2], sin [S, D/2] | (halves are rotated, as in Llama) |
| transpose | x | perm |
| reshape | x | shape (a view: moves nothing) |
| concat | x0, x1, ... | axis |
| slice | x | starts, steps, counts (one per axis; a step may be negative), in_place? (bool) |
| pad | x | pad_begin, pad_end (one per axis), value |
| gather | data, indices | axis |
| resize | x [N,C,*S] | mode (nearest, linear, cubic), shape (of the output's space), scales, coordinates, rounding |
| topk | x | axis, k, largest, indices (bool: places along the axis, else values); in order, ties by place |
| scan | x | axis, function (sum, prod), exclusive, reverse: what has been summed up so far |
| scatter | data [R, W], rows [U], updates [U, W] | reduction (none, add, mul, max, min) of old and new |
| cache_update | cache, new | axis, position: `new` is written into the cache, which is the output |
| all_reduce | x | chips: how many run this program in step; the sum of what each of them has as x |

`pads` stands for two attributes, pad_begin and pad_end; both have one entry per spatial dimension.

A packed_matmul is a @ ((b - zero) * scale): the weights b stay small in memory and are unpacked for each product,
`group` elements along K by one scale (and zero point). Its result has the format of a.

An attention is softmax(steps(q @ k^T)) @ v in one kernel (sim/graph/attention.py): `steps` are (function, parameters)
of element functions on the scores, whose further inputs follow v in order, or "causal", which hides the keys ahead of
a query (the last one sees all); k and v have q's batch axes, or 1 where heads share them. `sink` says whether the last
input is that of a softmax. `places` says which axis of its tensor every axis of q, k, v and the result is
(sim/graph/places.py), where they lie in another order than listed.

`coordinates` of a resize says which input coordinate an output index y has, with scale s, extents X and Y:
half_pixel (y + 0.5) / s - 0.5, pytorch_half_pixel (the same, 0 where Y = 1), asymmetric y / s, align_corners
y (X - 1) / (Y - 1). `rounding` takes a coordinate to the nearest element: floor, ceil, round_prefer_floor,
round_prefer_ceil. Cubic has `coefficient` (a of the kernel) and `exclude_outside` (elements beyond the border have
no share, else the border's numbers go on).

A slice `in_place` (of steps of 1) is a view, as a reshape: nobody copies it, those who need it read a part of x. It is
no output of the graph, and nothing is a view of it.

`block` (axis, size) of a mul: so many elements along an axis of the constant it multiplies with are alike.

`parameters` of an elementwise function: leaky_relu (slope), elu (alpha), clip (low, high), hard_sigmoid
(alpha, beta: clip(alpha x + beta, 0, 1)), quantize (scale, zero point, low, high), dequantize (scale, zero
point), cast (low and high of an integer format, which truncates; nothing for a floating-point format), isinf
(are negative, are positive ones sought: 0 or 1), selu (alpha, gamma), celu (alpha), thresholded_relu (alpha),
shrink (lambda, bias), quick_gelu (alpha: x sigmoid(alpha x)). hard_swish is x clip(x / 6 + 1 / 2, 0, 1). prelu
reads its slopes as second input, where its condition as first. keep_where and fill_where read x, a condition and y:
x where it holds, or where it does not (PyTorch's masked_fill), else y; the fuser makes them of a where whose choices
are computed by its host. int_div rounds towards zero, mod down, fmod has the sign of what is divided.

Every operator has one output; what a format writes with several (split, LSTM) is imported as several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

KINDS: tuple[str, ...] = (
    "conv",
    "conv_transpose",
    "matmul",
    "packed_matmul",
    "attention",
    "pool",
    "reduce",
    "elementwise",
    "softmax",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm",
    "lrn",
    "rope",
    "transpose",
    "reshape",
    "concat",
    "slice",
    "pad",
    "gather",
    "resize",
    "topk",
    "scan",
    "scatter",
    "cache_update",
    "all_reduce",
)

CONTRACTIONS = frozenset({"conv", "conv_transpose", "matmul", "packed_matmul", "attention"})
"""Kinds made of multiply-accumulates, which a systolic array can run."""

BIASED = CONTRACTIONS - {"packed_matmul", "attention"}
"""Kinds whose third input, if any, is a bias."""

ELEMENT_FUNCTIONS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "add": {"add": 1},
        "sub": {"add": 1},
        "mul": {"mul": 1},
        "div": {"div": 1},
        "max": {"compare": 1},
        "min": {"compare": 1},
        "pow": {"log": 1, "mul": 1, "exp": 1},
        "square": {"mul": 1},
        "abs": {"compare": 1},
        "neg": {"add": 1},
        "sqrt": {"sqrt": 1},
        "reciprocal": {"reciprocal": 1},
        "exp": {"exp": 1},
        "log": {"log": 1},
        "erf": {"erf": 1},
        "tanh": {"tanh": 1},
        "sigmoid": {"sigmoid": 1},
        "relu": {"compare": 1},
        "leaky_relu": {"mul": 1, "select": 1},
        "prelu": {"mul": 1, "select": 1},
        "elu": {"exp": 1, "add": 1, "select": 1},
        "softplus": {"exp": 1, "add": 1, "log": 1},
        "clip": {"compare": 2},
        "hard_sigmoid": {"mul": 1, "add": 1, "compare": 2},
        "hard_swish": {"mul": 2, "add": 1, "compare": 2},
        "gelu": {"erf": 1, "mul": 3, "add": 1},
        "gelu_tanh": {"tanh": 1, "mul": 5, "add": 2},
        "silu": {"sigmoid": 1, "mul": 1},
        "mish": {"exp": 1, "add": 1, "log": 1, "tanh": 1, "mul": 1},
        "sin": {"sin": 1},
        "cos": {"sin": 1},
        "floor": {"convert": 1},
        "ceil": {"convert": 1},
        "round": {"convert": 1},
        "cast": {"convert": 1},
        "quantize": {"mul": 1, "convert": 1},
        "dequantize": {"convert": 1, "mul": 1},
        "copy": {"copy": 1},
        "where": {"select": 1},
        "keep_where": {"select": 1},
        "fill_where": {"select": 1},
        "equal": {"compare": 1},
        "less": {"compare": 1},
        "greater": {"compare": 1},
        "not": {"compare": 1},
        "and": {"compare": 1},
        "or": {"compare": 1},
        "xor": {"compare": 1},
        "isnan": {"compare": 1},
        "isinf": {"compare": 2},
        "sign": {"compare": 2},
        "int_div": {"div": 1, "convert": 1},
        "mod": {"div": 1, "floor": 1, "multiply_add": 1},
        "fmod": {"div": 1, "convert": 1, "multiply_add": 1},
        "bit_and": {"compare": 1},
        "bit_or": {"compare": 1},
        "bit_xor": {"compare": 1},
        "bit_not": {"compare": 1},
        "shift_left": {"compare": 1},
        "shift_right": {"compare": 1},
        "tan": {"sin": 2, "div": 1},
        "atan": {"reciprocal": 1, "multiply_add": 6, "select": 1},
        "asin": {"sqrt": 1, "multiply_add": 5, "select": 1},
        "acos": {"sqrt": 1, "multiply_add": 5, "select": 1},
        "sinh": {"exp": 1, "reciprocal": 1, "multiply_add": 2},
        "cosh": {"exp": 1, "reciprocal": 1, "multiply_add": 2},
        "asinh": {"multiply_add": 1, "sqrt": 1, "add": 1, "log": 1},
        "acosh": {"multiply_add": 1, "sqrt": 1, "add": 1, "log": 1},
        "atanh": {"add": 2, "div": 1, "log": 1, "mul": 1},
        "softsign": {"abs": 1, "add": 1, "div": 1},
        "selu": {"exp": 1, "multiply_add": 1, "select": 1, "mul": 1},
        "celu": {"mul": 2, "exp": 1, "add": 1, "select": 1},
        "thresholded_relu": {"compare": 1, "select": 1},
        "shrink": {"compare": 2, "add": 1, "select": 1},
        "quick_gelu": {"mul": 2, "sigmoid": 1},
    }
)
"""Each element function as counts of the vector unit's primitive passes (their cost: sim/hw/vector.py).

Arcus tangent and sine: the polynomials 4.4.49 and 4.4.45 of Abramowitz and Stegun, Handbook of Mathematical Functions.
"""

TRUTHS = frozenset({"equal", "less", "greater", "not", "and", "or", "xor", "isnan", "isinf"})
"""Element functions whose results are true or false."""

BINARY_FUNCTIONS = frozenset(
    {
        *("add", "sub", "mul", "div", "max", "min", "pow", "prelu", "int_div", "mod", "fmod"),
        *("equal", "less", "greater", "and", "or", "xor"),
        *("bit_and", "bit_or", "bit_xor", "shift_left", "shift_right"),
    }
)
TERNARY_FUNCTIONS = frozenset({"where", "keep_where", "fill_where"})


def arity(function: str) -> int:
    """Operands of an element function."""
    return 3 if function in TERNARY_FUNCTIONS else 2 if function in BINARY_FUNCTIONS else 1


@dataclass(frozen=True, slots=True)
class Op:
    """One operator.

    `epilogue` holds operators fused into this one's drain: each is applied, in order, to the result on its
    way from the accumulator; the first input of each is the running result (its name is that of the tensor
    that the unfused graph would have held). `block` numbers the repeated block (transformer layer) the
    operator belongs to, -1 outside. Attributes compare by value.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    epilogue: tuple[Op, ...] = ()
    block: int = -1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"operator {self.name}: unknown kind {self.kind!r}; one of {list(KINDS)}")
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes[attribute]

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and worker processes are sent graphs.
        attributes = dict(self.attributes)
        fields = (self.name, self.kind, self.inputs, self.output, attributes, self.epilogue, self.block)
        return (Op, fields)

    @property
    def view(self) -> bool:
        """Does it only say how to read what lies in memory already?"""
        return self.kind == "reshape" or (self.kind == "slice" and bool(self.attributes.get("in_place", False)))

    @property
    def result(self) -> str:
        """Name of the tensor that is finally written: the output of the last fused operator."""
        return self.epilogue[-1].output if self.epilogue else self.output

    @property
    def operands(self) -> tuple[str, ...]:
        """Every tensor read, the fused operators' further inputs included."""
        return self.inputs + tuple(name for step in self.epilogue for name in step.inputs[1:])
