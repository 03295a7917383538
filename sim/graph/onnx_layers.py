"""ONNX operators with a window, a product or a norm: handlers by operator type.

Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sim.graph.onnx_node import Handler, Importer, Node, Unsupported, normal_axis
from sim.graph.shapes import Shape, same_padding

_LONGEST = 1 << 24
"""Longest axis that is resized: which elements each one of it reads is worked out in full."""


def _window(node: Node, space: Shape, kernel: Sequence[int]) -> dict[str, Any]:
    """Kernel, stride, dilation and padding of a convolution or a pool over an input of extents `space`."""
    rank = len(space)
    attributes: dict[str, Any] = {
        "kernel": tuple(kernel),
        "stride": tuple(node.get("strides", [1] * rank)),
        "dilation": tuple(node.get("dilations", [1] * rank)),
    }
    for name, found in attributes.items():
        if len(found) != rank or min(found, default=1) < 1:
            raise ValueError(f"{name} {list(found)} does not fit {rank} spatial dimensions")
    automatic = node.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = same_padding(space, **attributes)
        if automatic == "SAME_LOWER":
            begin, end = end, begin
    elif automatic in ("NOTSET", "VALID", ""):
        pads = [0] * 2 * rank if automatic == "VALID" else node.get("pads", [0] * 2 * rank)
        begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    else:
        raise Unsupported(f"auto_pad = {automatic!r}")
    if min((0, *begin, *end)) < 0:
        raise Unsupported(f"negative pads {[*begin, *end]}")
    return {**attributes, "pad_begin": begin, "pad_end": end}


def _conv(model: Importer, node: Node) -> list[str]:
    inputs = model.tensors(node)
    space, kernel = model.shape(inputs[0])[2:], model.shape(inputs[1])[2:]
    attributes = _window(node, space, node.get("kernel_shape", kernel))
    return [model.op("conv", inputs, {**attributes, "groups": node.get("group", 1)}, node)]


def _conv_transpose(model: Importer, node: Node) -> list[str]:
    inputs = model.tensors(node)
    space, kernel = model.shape(inputs[0])[2:], model.shape(inputs[1])[2:]
    automatic = node.get("auto_pad", "NOTSET")
    same = automatic in ("SAME_UPPER", "SAME_LOWER")
    plain = {key: value for key, value in node.attributes.items() if not (same and key == "auto_pad")}
    attributes = _window(replace(node, attributes=plain), space, node.get("kernel_shape", kernel))
    stride, dilation = attributes["stride"], attributes["dilation"]
    extra = tuple(node.get("output_padding", [0] * len(space)))
    wanted = node.get("output_shape", None)
    if wanted or same:
        wanted = wanted or [extent * step for extent, step in zip(space, stride, strict=True)]
        totals = [
            (extent - 1) * step + more + (k - 1) * d + 1 - out
            for extent, step, more, k, d, out in zip(
                space, stride, extra, kernel, dilation, wanted[-len(space) :], strict=True
            )
        ]
        if min(totals) < 0:
            raise Unsupported(f"an output_shape {list(wanted)} beyond what the kernel reaches")
        small, large = tuple(total // 2 for total in totals), tuple(-(-total // 2) for total in totals)
        upper = automatic == "SAME_UPPER"
        attributes |= {"pad_begin": small if upper else large, "pad_end": large if upper else small}
    attributes |= {"output_pad": extra, "groups": node.get("group", 1)}
    return [model.op("conv_transpose", inputs, attributes, node)]


def _pool(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    space = model.shape(x)[2:]
    attributes = _window(node, space, node.attributes["kernel_shape"])
    counted = bool(node.get("count_include_pad", 0))
    attributes["count_include_pad"] = counted
    attributes["function"] = "max" if node.op_type == "MaxPool" else "average"
    end = attributes["pad_end"]
    if node.get("ceil_mode", 0) and node.get("auto_pad", "NOTSET") in ("NOTSET", "VALID", ""):
        end = _ceil_padding(attributes, space)
    if counted and end != attributes["pad_end"]:
        # What ceil_mode adds beyond the padding is not counted, so the padding becomes zeros of the input.
        begin = attributes["pad_begin"]
        padding = {"pad_begin": (0, 0, *begin), "pad_end": (0, 0, *attributes["pad_end"]), "value": 0.0}
        x = model.op("pad", [x], padding, node)
        end = tuple(late - early for late, early in zip(end, attributes["pad_end"], strict=True))
        attributes |= {"pad_begin": (0,) * len(begin), "count_include_pad": False}
    return [model.op("pool", [x], {**attributes, "pad_end": end}, node)]


def _ceil_padding(attributes: Mapping[str, Any], space: Shape) -> Shape:
    """End padding with which rounding the number of windows down gives what rounding it up would have given.

    A window that would start in the end padding is left out, as in PyTorch and ONNX Runtime.
    """
    ends = []
    for extent, begin, end, kernel, stride, dilation in zip(
        space,
        *(attributes[key] for key in ("pad_begin", "pad_end", "kernel", "stride", "dilation")),
        strict=True,
    ):
        span = dilation * (kernel - 1) + 1
        count = -(-(extent + begin + end - span) // stride) + 1
        if (count - 1) * stride >= extent + begin:
            count -= 1
        ends.append(max(end, (count - 1) * stride + span - extent - begin))
    return tuple(ends)


def _global_pool(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    axes = tuple(range(2, len(model.shape(x))))
    function = "mean" if node.op_type == "GlobalAveragePool" else "max"
    return [model.op("reduce", [x], {"function": function, "axes": axes, "keepdims": True}, node)]


def _gemm(model: Importer, node: Node) -> list[str]:
    """alpha A B + beta C; a C of one row becomes the bias."""
    a, b = model.tensor(node, 0), model.tensor(node, 1)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    flags = {"transpose_a": bool(node.get("transA", 0)), "transpose_b": bool(node.get("transB", 0))}
    width = model.shape(b)[-2 if flags["transpose_b"] else -1]
    c = model.constants.get(node.inputs[2]) if node.has(2) else None
    if c is not None and beta == 1.0 and alpha == 1.0 and c.size == width and c.shape[-1:] == (width,):
        plain = c.ndim == 1
        bias = model.tensor(node, 2) if plain else model.weight(c.reshape(width), f"{node.name}.bias")
        return [model.op("matmul", [a, b, bias], flags, node)]
    result = model.op("matmul", [a, b], flags, node)
    if alpha != 1.0:
        result = model.function(node, "mul", result, model.scalar(node, alpha, result))
    if node.has(2) and beta != 0.0:
        addend = model.tensor(node, 2)
        if beta != 1.0:
            addend = model.function(node, "mul", addend, model.scalar(node, beta, addend))
        result = model.function(node, "add", result, addend)
    return [result]


def _matmul(model: Importer, node: Node) -> list[str]:
    """NumPy's matmul: a vector counts as a row on the left and as a column on the right."""
    a, b = model.tensor(node, 0), model.tensor(node, 1)
    row, column = len(model.shape(a)) == 1, len(model.shape(b)) == 1
    if row:
        a = model.op("reshape", [a], {"shape": (1, *model.shape(a))}, node)
    if column:
        b = model.op("reshape", [b], {"shape": (*model.shape(b), 1)}, node)
    result = model.op("matmul", [a, b], {"transpose_a": False, "transpose_b": False}, node)
    if row or column:
        *batch, m, n = model.shape(result)
        shape = (*batch, *(() if row else (m,)), *(() if column else (n,)))
        result = model.op("reshape", [result], {"shape": shape}, node)
    return [result]


def _softmax(model: Importer, node: Node) -> list[str]:
    """Before opset 13 an axis stands for itself and all after it, taken as one."""
    x = model.tensor(node, 0)
    shape, log = model.shape(x), node.op_type == "LogSoftmax"
    axis = normal_axis(node.get("axis", -1 if node.opset >= 13 else 1), len(shape))
    if node.opset >= 13 or axis == len(shape) - 1:
        return [model.op("softmax", [x], {"axis": axis, "log": log}, node)]
    flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    x = model.op("reshape", [x], {"shape": flat}, node)
    x = model.op("softmax", [x], {"axis": 1, "log": log}, node)
    return [model.op("reshape", [x], {"shape": shape}, node)]


def _layer_norm(model: Importer, node: Node) -> list[str]:
    """LayerNormalization, and RMSNormalization under its two names."""
    kind = "layer_norm" if node.op_type == "LayerNormalization" else "rms_norm"
    x = model.tensor(node, 0)
    shape = model.shape(x)
    axis = normal_axis(node.get("axis", -1), len(shape))
    extras = [index for index in (1, 2) if node.has(index)]
    inputs = [x, *(_broadcast_constant(model, node, index, shape[axis:]) for index in extras)]
    return [model.op(kind, inputs, {"axis": axis, "epsilon": node.get("epsilon", 1e-5)}, node)]


def _broadcast_constant(model: Importer, node: Node, index: int, shape: Shape) -> str:
    """Input `index`, with a shape that ONNX broadcasts spelled out."""
    found = model.tensor(node, index)
    if model.shape(found) == shape:
        return found
    value = model.value(node, index)
    assert value is not None
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value[0]
    return model.weight(np.broadcast_to(value, shape), f"{node.name}.{index}")


def _batch_norm(model: Importer, node: Node) -> list[str]:
    node.expect("training_mode", 0)
    node.expect("spatial", 1)
    return [model.op("batch_norm", model.tensors(node), {"epsilon": node.get("epsilon", 1e-5)}, node)]


def _group_norm(model: Importer, node: Node) -> list[str]:
    inputs = model.tensors(node)
    channels = model.shape(inputs[0])[1]
    groups = channels if node.op_type == "InstanceNormalization" else node.attributes["num_groups"]
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not divide into {groups} groups")
    if model.shape(inputs[1]) == (groups,) and groups != channels:
        # opset 18 has one scale and bias per group
        for index in (1, 2):
            value = model.value(node, index)
            assert value is not None
            inputs[index] = model.weight(np.repeat(value, channels // groups), f"{node.name}.{index}")
    return [model.op("group_norm", inputs, {"groups": groups, "epsilon": node.get("epsilon", 1e-5)}, node)]


def _lrn(model: Importer, node: Node) -> list[str]:
    defaults = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    attributes = {key: node.get(key, default) for key, default in defaults.items()}
    return [model.op("lrn", [model.tensor(node, 0)], {"size": node.attributes["size"], **attributes}, node)]


def _resize(model: Importer, node: Node) -> list[str]:
    """Resize of every opset, and Upsample, which it replaced."""
    x = model.tensor(node, 0)
    shape = model.shape(x)
    rank = len(shape)
    old = node.op_type == "Upsample" or node.opset < 11
    node.expect("mode", "nearest", "linear", *(["bilinear"] if old else ["cubic"]))
    for attribute, allowed in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch")):
        node.expect(attribute, allowed)
    scales, extents = _resize_scales(model, node, shape, old)
    if scales[:2] != [1.0, 1.0] or rank < 3:
        raise Unsupported(f"scales {scales} of a tensor {shape}; only spatial dimensions are resized")
    if max(extents) > _LONGEST:
        raise ValueError(f"{list(shape)} becomes {extents}; at most {_LONGEST} along an axis")
    coordinates = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    if coordinates not in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"):
        raise Unsupported(f"coordinate_transformation_mode = {coordinates!r}")
    attributes = {
        "mode": node.get("mode", "nearest").removeprefix("bi"),
        "shape": tuple(extents[2:]),
        "scales": tuple(scales[2:]),
        "coordinates": coordinates,
        "rounding": "floor" if old else node.get("nearest_mode", "round_prefer_floor"),
    }
    if attributes["mode"] == "cubic":
        attributes["coefficient"] = node.get("cubic_coeff_a", -0.75)
        attributes["exclude_outside"] = bool(node.get("exclude_outside", 0))
    return [model.op("resize", [x], attributes, node)]


def _resize_scales(model: Importer, node: Node, shape: Shape, old: bool) -> tuple[list[float], list[int]]:
    """Scale and output extent per axis, from whichever of `scales` and `sizes` is given."""
    rank = len(shape)
    axes = [normal_axis(axis, rank) for axis in node.get("axes", range(rank))]
    scales, extents = [1.0] * rank, list(shape)
    given = node.attributes.get("scales", model.value(node, 1 if old else 2))
    if given is not None and np.size(given):
        for axis, scale in zip(axes, np.ravel(given).tolist(), strict=True):
            if not 0 < scale < math.inf:
                raise ValueError(f"scale {scale} of axis {axis}; a positive number is needed")
            scales[axis], extents[axis] = scale, math.floor(shape[axis] * scale)
        return scales, extents
    sizes = model.value(node, 3)
    if sizes is None:
        raise ValueError("neither scales nor sizes are given")
    for axis, size in zip(axes, np.ravel(sizes).tolist(), strict=True):
        scales[axis], extents[axis] = size / shape[axis], size
    return scales, extents


LAYERS: Mapping[str, Handler] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm,
    "SimplifiedLayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _group_norm,
    "GroupNormalization": _group_norm,
    "LRN": _lrn,
    "Resize": _resize,
    "Upsample": _resize,
}
