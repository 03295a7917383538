"""The functions of elementwise operators in NumPy (formulas: onnx.ai/onnx/operators, except where a comment names
another source)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def _sigmoid(x: Array) -> Array:
    # in this form nothing overflows
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _erf(x: Array) -> Array:
    values = np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size)
    return values.reshape(x.shape)


def _gelu_tanh(x: Array) -> Array:
    """Hendrycks and Gimpel 2016, the tanh approximation."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _cast(x: Array, low: float | None = None, high: float | None = None) -> Array:
    if low is not None:
        return np.asarray(np.clip(np.trunc(x), low, high))
    return x.astype(np.float64) if x.dtype == bool else x


def _whole(x: Array) -> Array:
    """Numbers of an integer format, which a cast may have left in floating point."""
    return x.astype(np.int64) if np.issubdtype(x.dtype, np.floating) else x


def _divisor(y: Array) -> Array:
    """Nothing is said about integers divided by zero; here nothing is done to them."""
    return np.where(y == 0, 1, y) if np.issubdtype(y.dtype, np.integer) else y


def _int_div(x: Array, y: Array) -> Array:
    """Rounded towards zero, as in C."""
    x, y = _whole(x), _divisor(_whole(y))
    return np.asarray(np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.float_power,
    "square": np.square,
    "abs": np.abs,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "reciprocal": lambda x: 1.0 / x,
    "exp": np.exp,
    "log": np.log,
    "erf": _erf,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x < 0, x * slope, x),
    "prelu": lambda x, slope: np.where(x < 0, x * slope, x),
    "elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "softplus": _softplus,
    "clip": np.clip,
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0),
    "hard_swish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "cast": _cast,
    "quantize": lambda x, scale, zero, low, high: np.clip(np.round(x / scale) + zero, low, high),
    "dequantize": lambda x, scale, zero: (x - zero) * scale,
    "copy": lambda x: x,
    "where": lambda choice, x, y: np.where(choice.astype(bool), x, y),
    "keep_where": lambda x, choice, y: np.where(choice.astype(bool), x, y),
    "fill_where": lambda x, choice, y: np.where(choice.astype(bool), y, x),
    "equal": np.equal,
    "less": np.less,
    "greater": np.greater,
    "not": np.logical_not,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "isnan": np.isnan,
    "isinf": lambda x, low, high: (np.isneginf(x) & bool(low)) | (np.isposinf(x) & bool(high)),
    "sign": np.sign,
    "int_div": _int_div,
    "mod": lambda x, y: np.mod(x, _divisor(y)),
    "fmod": lambda x, y: np.fmod(x, _divisor(y)),
    "bit_and": lambda x, y: _whole(x) & _whole(y),
    "bit_or": lambda x, y: _whole(x) | _whole(y),
    "bit_xor": lambda x, y: _whole(x) ^ _whole(y),
    "bit_not": lambda x: ~_whole(x),
    "shift_left": lambda x, y: _whole(x) << _whole(y),
    "shift_right": lambda x, y: _whole(x) >> _whole(y),
    "tan": np.tan,
    "atan": np.arctan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "selu": lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "celu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0),
    "shrink": lambda x, reach, bias: np.where(x < -reach, x + bias, np.where(x > reach, x - bias, 0)),
    "quick_gelu": lambda x, alpha: x * _sigmoid(alpha * x),
}
"""The meaning of every function of sim.graph.op.ELEMENT_FUNCTIONS: its tensors, then its parameters."""
