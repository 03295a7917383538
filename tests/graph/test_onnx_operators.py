"""Every ONNX operator that is imported, against ONNX Runtime: output shape and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_models import build, compare

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(20)


def f(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def s(value: float) -> Array:
    return np.array(value, np.float32)


def case(
    op_type: str,
    *inputs: Array | tuple[int, ...],
    consts: tuple[Array | None, ...] = (),
    opset: int = 17,
    outputs: int = 1,
    **attributes: Any,
) -> Any:
    """Inputs are shapes of random floats or arrays; then come constants, None for an absent one."""
    feeds = [value if isinstance(value, np.ndarray) else f(*value) for value in inputs]
    text = "-".join([op_type, str(opset), *(f"{key}={value}" for key, value in attributes.items())])
    return pytest.param(op_type, feeds, consts, opset, outputs, attributes, id=text)


def check(
    op_type: str,
    inputs: list[Array],
    consts: tuple[Array | None, ...],
    opset: int,
    outputs: int,
    attributes: dict[str, Any],
    folder: Path,
) -> None:
    feeds = {f"x{k}": value for k, value in enumerate(inputs)}
    known = {f"c{k}": value for k, value in enumerate(consts) if value is not None}
    names = [*feeds, *(f"c{k}" if value is not None else "" for k, value in enumerate(consts))]
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op_type, names, results, **attributes)
    compare(build([node], feeds, results, known, opset), feeds, folder)


PARAMETERS = ("op_type", "inputs", "consts", "opset", "outputs", "attributes")

CONVOLUTIONS = [
    case(
        "Conv",
        (2, 6, 11, 9),
        consts=(f(8, 3, 3, 2), f(8)),
        strides=[2, 1],
        pads=[1, 0, 2, 1],
        dilations=[1, 2],
        group=2,
    ),
    case("Conv", (2, 6, 11), consts=(f(6, 1, 3),), group=6, auto_pad="SAME_UPPER", strides=[2]),
    case("Conv", (1, 2, 7, 6, 5), consts=(f(4, 2, 3, 2, 2),), auto_pad="SAME_LOWER", strides=[2, 1, 2]),
    case("Conv", (1, 2, 7, 6), consts=(f(4, 2, 3, 2),), auto_pad="VALID"),
    case("Conv", (1, 2, 7, 6), (4, 2, 3, 2)),
    case(
        "ConvTranspose",
        (2, 6, 5, 4),
        consts=(f(6, 2, 3, 2), f(4)),
        strides=[2, 3],
        pads=[1, 0, 1, 1],
        dilations=[2, 1],
        group=2,
        output_padding=[1, 0],
    ),
    case("ConvTranspose", (2, 6, 5), consts=(f(6, 2, 3),), strides=[2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", (2, 6, 5), consts=(f(6, 2, 5),), strides=[2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", (1, 3, 5, 5), consts=(f(3, 2, 4, 4),), strides=[2, 2], output_shape=[9, 10]),
    case("ConvTranspose", (1, 3, 4, 4, 3), consts=(f(3, 2, 3, 3, 3),), strides=[2, 2, 1]),
]

PADDINGS: list[dict[str, Any]] = [
    {"ceil_mode": 1},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
    {"pads": [1, 0, 1, 1]},
    {"pads": [1, 1, 1, 1], "ceil_mode": 1},
]
WINDOW: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 3]}

POOLS = [
    *(case(op, (2, 3, 10, 8), **WINDOW, **pads) for op in ("MaxPool", "AveragePool") for pads in PADDINGS),
    *(case("AveragePool", (2, 3, 10, 8), opset=19, count_include_pad=1, **WINDOW, **p) for p in PADDINGS),
    case("MaxPool", (2, 3, 12), kernel_shape=[3], dilations=[2], strides=[2]),
    case("MaxPool", (2, 3, 6, 7, 8), kernel_shape=[2, 3, 2]),
    # the last window would start in the padding and is left out
    case("MaxPool", (1, 1, 4, 4), kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1),
    case("AveragePool", (2, 3, 12), opset=19, kernel_shape=[3], dilations=[2], strides=[2]),
    case("GlobalAveragePool", (2, 3, 4, 5)),
    case("GlobalMaxPool", (2, 3, 4)),
]

PRODUCTS = [
    case("Gemm", (3, 4), consts=(f(4, 5), f(5))),
    case("Gemm", (4, 3), consts=(f(5, 4), f(1, 5)), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", (3, 4), consts=(f(5, 4), f(1, 5)), transB=1),
    case("Gemm", (3, 4), consts=(f(4, 5), f(3, 1))),
    case("Gemm", (3, 4), consts=(f(4, 5), s(2.0))),
    case("Gemm", (3, 4), (4, 5), (3, 5), beta=0.5),
    case("MatMul", (4,), (4, 3)),
    case("MatMul", (2, 3, 4), (4,)),
    case("MatMul", (5, 1, 3, 4), (2, 4, 3)),
    case("MatMul", (4,), (4,)),
    case("Einsum", (2, 3, 4, 5), (2, 3, 6, 5), equation="bhid,bhjd->bhij"),
    case("Einsum", (2, 3, 4, 5), (2, 6, 4, 5), equation="bqhd, bkhd -> bhqk"),
    case("Einsum", (2, 3, 4), (4, 5), equation="abc,cd->dab"),
    case("Einsum", (2, 3, 4), equation="ijk->kij"),
    case("Einsum", (2, 3, 4), equation="ijk->ki"),
    case("Einsum", (3,), (4,), equation="i,j->ij"),
    case("Einsum", (3,), (3,), equation="i,i"),
    case("Einsum", (3,), (3,), equation="i,i->i"),
    case("Einsum", (2, 3, 4), (2, 5, 4), equation="...ij,...kj->...ki"),
    case("Einsum", (2, 3, 4), (4, 5), equation="...j,jk"),
    case("Einsum", (2, 3), (3, 4), (4, 5), equation="ab,bc,cd->da"),
    case("Einsum", (2, 3), (3, 4), (2, 4), equation="ab,bc,ac->b"),
    case("Einsum", (2, 3, 6), (3, 4), equation="abx,bc->ca"),
]

NORMS = [
    *(case(op, (2, 3, 4), opset=v) for op in ("Softmax", "LogSoftmax") for v in (11, 13)),
    *(case("Softmax", (2, 3, 4), opset=v, axis=1) for v in (11, 13)),
    case("LayerNormalization", (2, 3, 4), consts=(f(4), f(4))),
    case("LayerNormalization", (2, 3, 4), consts=(f(3, 4),), axis=1, epsilon=1e-2),
    case("LayerNormalization", (2, 3, 4), consts=(f(1, 4),), axis=-1),
    case("RMSNormalization", (2, 3, 4), opset=23, consts=(f(4),)),
    case("SimplifiedLayerNormalization", (2, 3, 4), consts=(f(4),)),
    case("BatchNormalization", (2, 3, 4, 5), consts=(f(3), f(3), f(3), abs(f(3))), epsilon=1e-2),
    case("BatchNormalization", (2, 3), opset=9, consts=(f(3), f(3), f(3), abs(f(3)))),
    case("InstanceNormalization", (2, 3, 4, 5), consts=(f(3), f(3))),
    case("GroupNormalization", (2, 6, 4, 5), opset=21, consts=(f(6), f(6)), num_groups=3),
    case("GroupNormalization", (2, 6, 4), opset=18, consts=(f(3), f(3)), num_groups=3),
    case("LRN", (2, 7, 4, 5), size=5, alpha=0.1, beta=0.6, bias=2.0),
    case("LRN", (2, 7, 4, 5), size=3),
]

# Extents and scales at which no coordinate lies on a rounding border, where single precision decides.
COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
NEAREST = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
RESIZES = [
    *(
        case("Resize", (1, 2, 5, 7), consts=target, mode=mode, coordinate_transformation_mode=rule, **nearest)
        for target in ((None, None, i(1, 2, 8, 4)), (None, np.array([1, 1, 1.7, 0.55], np.float32)))
        for rule in COORDINATES
        for mode, nearest in (("linear", {}), *(("nearest", {"nearest_mode": n}) for n in NEAREST))
    ),
    *(
        case("Resize", (1, 2, 5, 7), consts=target, mode="cubic", coordinate_transformation_mode=rule, **more)
        for target in ((None, None, i(1, 2, 8, 4)), (None, np.array([1, 1, 1.7, 0.55], np.float32)))
        for rule in COORDINATES
        for more in ({}, {"exclude_outside": 1, "cubic_coeff_a": -0.5})
    ),
    case("Resize", (1, 2, 5), consts=(np.array([1, 1, 1.7], np.float32),), opset=10, mode="linear"),
    case("Resize", (1, 2, 5, 5), consts=(np.array([1, 1, 1.7, 2], np.float32),), opset=10),
    case("Resize", (1, 2, 5, 4), opset=18, consts=(None, None, i(7, 6)), axes=[2, 3], mode="linear"),
    case("Upsample", (1, 2, 5, 5), consts=(np.array([1, 1, 2, 2], np.float32),), opset=9),
    case("Upsample", (1, 2, 5, 5), opset=7, scales=[1.0, 1.0, 2.0, 3.0], mode="linear"),
]

SAMPLED = [
    *(
        case("GridSample", (2, 3, 5, 6), 1.3 * np.tanh(f(2, 4, 3, 2)), opset=20, mode=mode, padding_mode=pad, **more)
        for mode in ("linear", "nearest")
        for pad in ("zeros", "border")
        for more in ({}, {"align_corners": 1})
    ),
    *(case("LpNormalization", (2, 3, 4), p=p, axis=1) for p in (1, 2)),
    case("MeanVarianceNormalization", (2, 3, 4, 5)),
    case("Hardmax", np.array([[3, 1, 3, 2], [0, 4, 4, 4]], np.float32)),
]

UNARY = (
    "Abs Asinh Atan Celu Ceil Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish LeakyRelu Neg Reciprocal Relu Round "
    "Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh ThresholdedRelu"
)
FUNCTIONS = [
    *(case(op, (2, 3, 4)) for op in UNARY.split()),
    *(case(op, abs(f(2, 3)) + s(0.1)) for op in ("Log", "Sqrt")),
    *(case(op, np.tanh(f(2, 3))) for op in ("Acos", "Asin", "Atanh")),
    case("Acosh", abs(f(2, 3)) + s(1.1)),
    case("Celu", (2, 3), alpha=0.3),
    case("Selu", (2, 3), alpha=0.3, gamma=2.0),
    case("Shrink", (2, 3), lambd=0.3, bias=0.1),
    case("ThresholdedRelu", (2, 3), alpha=0.3),
    case("LeakyRelu", (2, 3), alpha=0.3),
    case("Elu", (2, 3), alpha=0.3),
    case("HardSigmoid", (2, 3), alpha=0.7, beta=0.1),
    case("Mish", (2, 3), opset=18),
    case("Gelu", (2, 3), opset=20),
    case("Gelu", (2, 3), opset=20, approximate="tanh"),
    *(case(op, (2, 3, 4), (3, 1)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")),
    *(case(op, (2, 3), (3,), (1, 3)) for op in ("Sum", "Mean", "Max", "Min")),
    *(
        case(op, i(3, 1, 2), i(3, 2, 1))
        for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
    ),
    *(case(op, np.array([True, True, False]), np.array([True, False, False])) for op in ("And", "Or")),
    case("Not", np.array([True, False])),
    case("Xor", np.array([True, True, False]), np.array([True, False, False])),
    case("IsNaN", np.array([1.0, np.nan, np.inf], np.float32)),
    *(
        case("IsInf", np.array([1.0, -np.inf, np.inf], np.float32), **sides)
        for sides in ({}, {"detect_negative": 0}, {"detect_positive": 0})
    ),
    case("Div", i(7, -7, 7, -7), i(2, 2, -2, -2)),
    case("Mod", i(7, -7, 7, -7), i(2, 2, -2, -2)),
    case("Mod", i(7, -7, 7, -7), i(4, 4, -4, -4), fmod=1),
    case("Mod", (2, 3), (2, 3), fmod=1),
    *(case(op, i(12, 5, -3), i(10, 3, 6), opset=18) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    case("BitwiseNot", i(12, 5, -3), opset=18),
    *(
        case("BitShift", np.array([12, 5], np.uint8), np.array([2, 1], np.uint8), direction=way)
        for way in ("LEFT", "RIGHT")
    ),
    case("Where", np.array([[True], [False]]), (2, 3), (3,)),
    case("PRelu", (2, 3, 4), consts=(f(3, 1),)),
    *(case("Pow", abs(f(2, 3)), consts=(s(power),)) for power in (2.0, 0.5, 1.7)),
    case("Clip", (2, 3), consts=(s(-0.5),)),
    case("Clip", (2, 3), consts=(None, s(0.5))),
    case("Clip", (2, 3), opset=6, min=-0.3, max=0.2),
    *(case("Cast", np.array([-1.7, 0.0, 2.5], np.float32), to=to) for to in (7, 9)),
    case("Cast", i(-1, 0, 2), to=1),
    case("Cast", np.array([True, False]), to=1),
    case("CastLike", i(-1, 0, 2), (1,)),
    case("QuantizeLinear", (3, 4), consts=(s(0.01), np.array(7, np.uint8))),
    case("QuantizeLinear", (3, 4), consts=(s(0.1), np.array(-7, np.int8))),
    case("DequantizeLinear", np.array([3, -4], np.int8), consts=(s(0.1), np.array(-7, np.int8))),
    case(
        "DequantizeLinear",
        np.array([[3, -4], [5, 6]], np.int8),
        consts=(np.array([0.5, 2.0], np.float32), np.array([1, 0], np.int8)),
        axis=1,
    ),
]

SCALES = np.array([0.011, 0.023, 0.1, 0.017], np.float32)
BLOCKS = np.array([[0.5, 2.0], [1.5, 0.25], [1.0, 3.0]], np.float32)
FUNCTIONS += [
    case("QuantizeLinear", (3, 4), consts=(SCALES, np.array([1, 0, 7, 128], np.uint8)), axis=1),
    case("QuantizeLinear", (3, 4), consts=(s(0.01),), output_dtype=3, opset=21),  # int8
    case("QuantizeLinear", (3, 8), consts=(BLOCKS * s(0.1),), axis=1, block_size=4, opset=21),
    case(
        "DequantizeLinear",
        np.arange(-12, 12, dtype=np.int8).reshape(3, 8),
        consts=(BLOCKS, np.array([[1, 0], [0, -3], [5, 5]], np.int8)),
        axis=1,
        block_size=4,
        opset=21,
    ),
]

REDUCTION_TYPES = [
    f"Reduce{name}" for name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")
]
REDUCTIONS = [
    *(case(op, (2, 3, 4), opset=18, consts=(i(-1, 0),)) for op in REDUCTION_TYPES),
    *(case(op, (2, 3, 4), opset=18) for op in REDUCTION_TYPES),
    *(case(op, (2, 3, 4), opset=11, axes=[1], keepdims=0) for op in REDUCTION_TYPES),
    case("ReduceL2", (2, 3), opset=18, noop_with_empty_axes=1),
    case("ReduceLogSum", abs(f(2, 3)), opset=18),
]

ARRAYS = [
    case("Transpose", (2, 3, 4)),
    case("Transpose", (2, 3, 4), perm=[1, 2, 0]),
    case("Reshape", (2, 3, 4), consts=(i(0, -1),)),
    *(case("Flatten", (2, 3, 4), axis=axis) for axis in (0, 2, -2)),
    case("Squeeze", (1, 3, 1)),
    case("Squeeze", (1, 3, 1), consts=(i(-1),)),
    case("Squeeze", (1, 3, 1), opset=11, axes=[0]),
    case("Unsqueeze", (2, 3), consts=(i(0, -1),)),
    case("Unsqueeze", (2, 3), opset=11, axes=[1]),
    case("Concat", (2, 3), (2, 1), axis=-1),
    case("Split", (2, 7), consts=(i(3, 4),), axis=1, outputs=2),
    case("Split", (2, 7), opset=18, axis=1, num_outputs=3, outputs=3),
    case("Split", (2, 6), opset=11, axis=1, split=[2, 4], outputs=2),
    case("Split", (4, 6), outputs=2),
    case("Slice", (5, 6, 7), consts=(i(1, -2), i(10**9, -100), i(0, 2), i(2, -2))),
    case("Slice", (5, 6), opset=9, starts=[1], ends=[-1], axes=[1]),
    case("Slice", (5, 6), consts=(i(-3), i(-1))),
    *(
        case("Pad", (1, 3, 5), opset=19, consts=(i(0, 1, 2, 0, 2, 1),), mode=mode)
        for mode in ("constant", "reflect", "edge", "wrap")
    ),
    case("Pad", (1, 3, 5), consts=(i(0, 1, -2, 0, -1, 1), s(3.0))),
    case("Pad", (1, 3, 5), opset=18, consts=(i(1, 2), s(1.5), i(-1))),
    case("Pad", (1, 3, 5), opset=10, pads=[0, 1, 2, 0, 0, 1], value=2.0),
    case("Gather", (4, 5), consts=(i(0, -1, 2),), axis=1),
    case("Gather", (4, 5), consts=(np.array([[0, 3]]),)),
    case("Gather", (4, 5), consts=(np.array(-2),)),
    case("Gather", (4, 5), i(3, 0)),
    case("Expand", (3, 1), consts=(i(2, 1, 4),)),
    case("Tile", (2, 3), consts=(i(2, 3),)),
    case("DepthToSpace", (1, 8, 2, 3), blocksize=2),
    case("DepthToSpace", (1, 8, 2, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", (1, 2, 4, 6), blocksize=2),
]

TIES = np.array([[3, 1, 3, 2], [0, 4, 4, 4]], np.float32)
LONG = f(3, 4, 5)

LOOKUPS = [
    *(case(op, TIES, axis=axis) for op in ("ArgMax", "ArgMin") for axis in (0, -1)),
    case("ArgMax", TIES, axis=1, keepdims=0, select_last_index=1),
    *(
        case("TopK", TIES, consts=(i(3),), axis=axis - 1, largest=largest, outputs=2)
        for axis, largest in ((0, 1), (0, 0))
    ),
    case("TopK", LONG, consts=(i(2),), axis=1, outputs=2),
    case("TopK", LONG, consts=(i(3),), axis=0, outputs=2),
    *(case("CumSum", LONG, consts=(i(a),), exclusive=e, reverse=r) for a, e, r in ((0, 0, 0), (1, 1, 0), (-1, 1, 1))),
    # computed and constant indices, both with some that count from the end
    case("GatherElements", LONG, np.array([[[0, -1], [2, 1]]]), axis=0),
    case("GatherElements", LONG, np.array([[[0, -1, 3], [2, 1, 0]]]), axis=1),
    case("GatherElements", LONG, consts=(np.array([[[0, -1, 3], [2, 1, 0]]]),), axis=1),
    case("GatherND", LONG, np.array([[2, -1]])),
    case("GatherND", LONG, np.array([[[-1], [1]], [[0], [0]]])),
    case("GatherND", LONG, np.array([[3, -1], [0, 0], [1, 4]]), batch_dims=1),
    case("GatherND", LONG, np.array([[-1], [0], [2]]), batch_dims=1),
    case("GatherND", LONG, consts=(np.array([[3, -1], [0, 0], [1, 4]]),), batch_dims=1),
    *(
        case("ScatterElements", LONG, np.array([[[0, -1, 3], [2, 1, 0]]]), (1, 2, 3), axis=1, opset=18, **more)
        for more in ({}, {"reduction": "add"}, {"reduction": "max"})
    ),
    case("ScatterElements", (2, 3), consts=(np.array([[1, 0, 2]]), f(1, 3)), axis=1),
    *(
        case("ScatterND", LONG, np.array([[2, -1], [0, 1]]), (2, 5), opset=18, **more)
        for more in ({}, {"reduction": "mul"}, {"reduction": "min"})
    ),
    case("ScatterND", LONG, consts=(np.array([[1], [-3]]), f(2, 4, 5))),
    *(case("OneHot", i(2, 0, -1, 7), consts=(i(4), np.array([5, 9], np.float32)), axis=axis) for axis in (0, -1)),
    *(case("Trilu", LONG, consts=(np.array(k, np.int64),), upper=up) for k, up in ((0, 1), (-1, 0), (2, 1))),
    case("Compress", LONG, consts=(np.array([True, False, True]),), axis=1),
    case("ReverseSequence", LONG, consts=(i(2, 1, 3, 3),), time_axis=0, batch_axis=1),
    case("ReverseSequence", LONG, consts=(i(2, 1, 4),), time_axis=1, batch_axis=0),
]

DEFINED = [
    # by the standard, as functions of other operators
    case("AffineGrid", (2, 2, 3), consts=(i(2, 3, 4, 5),), opset=20, align_corners=1),
    case("NegativeLogLikelihoodLoss", (3, 5), i(1, 0, 4), reduction="none"),
    case("SoftmaxCrossEntropyLoss", (3, 5), i(1, 0, 4), reduction="sum"),
]

STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 3, 4


def weights(gates: int, directions: int, states: int, biased: bool = True) -> tuple[Array | None, ...]:
    kernel = f(directions, gates * HIDDEN, WIDTH)
    bias = f(directions, 2 * gates * HIDDEN) if biased else None
    initial = [f(directions, BATCH, HIDDEN) for _ in range(states)]
    return (kernel, f(directions, gates * HIDDEN, HIDDEN), bias, None, *initial)


RECURRENT = [
    *(
        case("LSTM", (STEPS, BATCH, WIDTH), consts=weights(4, n, 2), direction=way, hidden_size=4, outputs=3)
        for way, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
    ),
    case("LSTM", (STEPS, BATCH, WIDTH), consts=weights(4, 1, 0, False), hidden_size=4),
    case(
        "LSTM",
        (STEPS, BATCH, WIDTH),
        consts=weights(4, 1, 0),
        hidden_size=4,
        activations=["Sigmoid", "Relu", "Tanh"],
    ),
    *(
        case("RNN", (STEPS, BATCH, WIDTH), consts=weights(1, n, 1), direction=way, hidden_size=4, outputs=2)
        for way, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
    ),
    case("RNN", (STEPS, BATCH, WIDTH), consts=weights(1, 1, 0), hidden_size=4, activations=["Relu"]),
    *(
        case(
            "GRU",
            (STEPS, BATCH, WIDTH),
            consts=weights(3, n, states),
            direction=way,
            hidden_size=4,
            outputs=2,
            linear_before_reset=linear,
        )
        for way, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
        for linear, states in ((0, 1), (1, 0))
    ),
]


@pytest.mark.parametrize(PARAMETERS, [*CONVOLUTIONS, *POOLS, *PRODUCTS, *NORMS, *RESIZES, *SAMPLED, *RECURRENT])
def test_layers(
    op_type: str,
    inputs: list[Array],
    consts: tuple[Array | None, ...],
    opset: int,
    outputs: int,
    attributes: dict[str, Any],
    tmp_path: Path,
) -> None:
    check(op_type, inputs, consts, opset, outputs, attributes, tmp_path)


@pytest.mark.parametrize(PARAMETERS, [*FUNCTIONS, *REDUCTIONS, *ARRAYS, *LOOKUPS, *DEFINED])
def test_functions_and_arrays(
    op_type: str,
    inputs: list[Array],
    consts: tuple[Array | None, ...],
    opset: int,
    outputs: int,
    attributes: dict[str, Any],
    tmp_path: Path,
) -> None:
    check(op_type, inputs, consts, opset, outputs, attributes, tmp_path)
