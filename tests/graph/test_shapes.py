from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sim.graph.op import KINDS
from sim.graph.shapes import broadcast_shape, infer_shape, same_padding

Shape = tuple[int, ...]


def window(rank: int, **changes: Any) -> dict[str, Any]:
    plain = {"kernel": (3,) * rank, "stride": (1,) * rank, "dilation": (1,) * rank}
    return {**plain, "pad_begin": (0,) * rank, "pad_end": (0,) * rank, **changes}


def attended(functions: Sequence[str] = (), *, transpose_b: bool = True, sink: bool = False) -> dict[str, Any]:
    return {"transpose_b": transpose_b, "steps": tuple((name, ()) for name in functions), "sink": sink}


SHAPES: list[tuple[str, dict[str, Any], list[Shape], Shape]] = [
    # ResNet's stem: floor((224 + 6 - 7) / 2) + 1 = 112
    (
        "conv",
        window(2, kernel=(7, 7), stride=(2, 2), pad_begin=(3, 3), pad_end=(3, 3)) | {"groups": 1},
        [(8, 3, 224, 224), (64, 3, 7, 7), (64,)],
        (8, 64, 112, 112),
    ),
    ("conv", window(1, dilation=(4,)) | {"groups": 6}, [(2, 6, 20), (12, 1, 3)], (2, 12, 12)),
    (
        "conv",
        window(3, pad_end=(2, 0, 1)) | {"groups": 1},
        [(1, 2, 4, 5, 6), (7, 2, 3, 3, 3)],
        (1, 7, 4, 3, 5),
    ),
    # a U-Net's up-convolution doubles: (32 - 1) * 2 + 2 = 64
    (
        "conv_transpose",
        window(2, kernel=(2, 2), stride=(2, 2)) | {"groups": 1, "output_pad": (0, 0)},
        [(1, 8, 32, 32), (8, 4, 2, 2)],
        (1, 4, 64, 64),
    ),
    (
        "conv_transpose",
        window(1, stride=(2,), pad_begin=(1,), pad_end=(1,)) | {"groups": 2, "output_pad": (1,)},
        [(1, 4, 5), (4, 3, 3)],
        (1, 6, 10),
    ),
    ("matmul", {"transpose_a": False, "transpose_b": True}, [(2, 1, 3, 4), (5, 6, 4)], (2, 5, 3, 6)),
    ("matmul", {"transpose_a": True, "transpose_b": False}, [(4, 3), (4, 6), (6,)], (3, 6)),
    # 10 elements in groups of 4: three scales for each of 6 columns
    ("packed_matmul", {"transpose_b": False, "group": 4}, [(2, 3, 10), (10, 6), (3, 6)], (2, 3, 6)),
    ("packed_matmul", {"transpose_b": True, "group": 4}, [(3, 10), (6, 10), (6, 3), (6, 3)], (3, 6)),
    ("attention", attended(), [(2, 8, 5, 16), (2, 8, 7, 16), (2, 8, 7, 12)], (2, 8, 5, 12)),
    (
        "attention",
        attended(("mul", "tanh", "add"), transpose_b=False, sink=True),
        [(2, 4, 3, 5, 16), (2, 4, 1, 16, 7), (2, 4, 1, 7, 12), (1,), (5, 7), (4, 3, 1, 1)],
        (2, 4, 3, 5, 12),
    ),
    ("pool", window(2, stride=(2, 2)) | {"function": "max"}, [(1, 8, 8, 9)], (1, 8, 3, 4)),
    ("reduce", {"function": "sum", "axes": (0, 2), "keepdims": False}, [(2, 3, 4)], (3,)),
    ("reduce", {"function": "mean", "axes": (1,), "keepdims": True}, [(2, 3, 4)], (2, 1, 4)),
    ("elementwise", {"function": "where"}, [(2, 1), (1, 3), (4, 1, 1)], (4, 2, 3)),
    ("softmax", {"axis": 1}, [(2, 3)], (2, 3)),
    ("layer_norm", {"axis": 1}, [(2, 3, 4), (3, 4), (3, 4)], (2, 3, 4)),
    ("rms_norm", {"axis": 2}, [(2, 3, 4), (4,)], (2, 3, 4)),
    ("group_norm", {"groups": 3}, [(2, 6, 5), (6,), (6,)], (2, 6, 5)),
    ("batch_norm", {}, [(2, 6, 5), *[(6,)] * 4], (2, 6, 5)),
    ("lrn", {}, [(2, 6, 5, 5)], (2, 6, 5, 5)),
    ("rope", {}, [(2, 8, 16, 64), (16, 32), (16, 32)], (2, 8, 16, 64)),
    ("transpose", {"perm": (2, 0, 1)}, [(2, 3, 4)], (4, 2, 3)),
    ("reshape", {"shape": (6, 4)}, [(2, 3, 4)], (6, 4)),
    ("concat", {"axis": 1}, [(2, 3), (2, 1), (2, 5)], (2, 9)),
    ("slice", {"starts": (1, 5), "steps": (1, -2), "counts": (2, 3)}, [(3, 6)], (2, 3)),
    ("pad", {"pad_begin": (0, 1), "pad_end": (0, 3)}, [(2, 3)], (2, 7)),
    ("gather", {"axis": 1}, [(2, 9, 4), (5, 6)], (2, 5, 6, 4)),
    ("resize", {"mode": "linear", "shape": (7, 9), "scales": (1.5, 2.0)}, [(1, 2, 5, 5)], (1, 2, 7, 9)),
    ("topk", {"axis": 1, "k": 3}, [(2, 9, 4)], (2, 3, 4)),
    ("reduce", {"function": "argmax", "axes": (1,), "keepdims": False}, [(2, 9, 4)], (2, 4)),
    ("scan", {"axis": 1, "function": "sum"}, [(2, 9)], (2, 9)),
    ("scatter", {"reduction": "none"}, [(7, 4), (2,), (2, 4)], (7, 4)),
    ("cache_update", {"axis": 2, "position": 3}, [(1, 2, 8, 4), (1, 2, 5, 4)], (1, 2, 8, 4)),
    ("all_reduce", {"chips": 8}, [(2, 9)], (2, 9)),
]


@pytest.mark.parametrize(("kind", "attributes", "inputs", "expected"), SHAPES)
def test_shapes(kind: str, attributes: dict[str, Any], inputs: list[Shape], expected: Shape) -> None:
    assert infer_shape(kind, attributes, inputs) == expected


def test_every_kind_is_covered() -> None:
    assert {kind for kind, *_ in SHAPES} == set(KINDS)


ERRORS: list[tuple[str, dict[str, Any], list[Shape], str]] = [
    ("topk", {"axis": 1, "k": 10}, [(2, 9)], "k of 1 to 9, the extent of axis 1, found 10"),
    ("reduce", {"function": "argmin", "axes": (0, 1), "keepdims": True}, [(2, 9)], r"one axis, found \[0, 1\]"),
    ("scan", {"axis": 0, "function": "max"}, [(2, 9)], "expected function sum or prod, found 'max'"),
    ("all_reduce", {"chips": 1}, [(2, 9)], "all_reduce: expected 2 to 4096 chips, found 1"),
    ("all_reduce", {"chips": 2.0}, [(2, 9)], "all_reduce: expected 2 to 4096 chips, found 2.0"),
    ("scatter", {"reduction": "div"}, [(7, 4), (2,), (2, 4)], "found 'div'"),
    ("scatter", {"reduction": "add"}, [(7, 4), (2,), (2, 3)], r"updates \[U, W\], found \(7, 4\), \(2,\) and \(2, 3\)"),
    ("fold", {}, [(2,)], "unknown operator kind 'fold'"),
    (
        "conv",
        window(2) | {"groups": 1},
        [(1, 3, 8, 8), (4, 2, 3, 3)],
        r"expected a weight \[O, 3/1.*\(4, 2, 3, 3\)",
    ),
    ("conv", window(2) | {"groups": 1}, [(1, 3, 2, 8), (4, 3, 3, 3)], r"give the empty shape \(1, 4, 0, 6\)"),
    ("conv", window(1) | {"groups": 1}, [(1, 3, 8, 8), (4, 3, 3, 3)], "expected 2 entries in kernel, found"),
    ("conv", window(2), [(1, 3, 8, 8), (4, 3, 3, 3)], "attribute 'groups' is missing"),
    ("conv", window(4) | {"groups": 1}, [(1,) * 6, (1,) * 6], "expected 1 to 3 spatial dimensions, found 4"),
    ("matmul", {"transpose_a": False, "transpose_b": False}, [(3, 4), (5, 6)], "found 4 of .* and 5 of"),
    ("matmul", {"transpose_a": False, "transpose_b": False}, [(4,), (4, 6)], "rank 2 or more"),
    ("packed_matmul", {"transpose_b": False, "group": 4}, [(3, 10), (9, 6), (3, 6)], "found 10 of .* and 9 of"),
    ("packed_matmul", {"transpose_b": False, "group": 4}, [(3, 10), (10, 6), (2, 6)], r"expected .* \(3, 6\), found"),
    ("packed_matmul", {"transpose_b": False, "group": 0}, [(3, 10), (10, 6), (2, 6)], "group of 1 or more, found 0"),
    ("packed_matmul", {"transpose_b": False, "group": 4}, [(3, 10), (2, 10, 6), (2, 6)], "weights of rank 2"),
    ("attention", attended(), [(2, 5, 16), (2, 7, 12), (2, 7, 12)], r"found \(2, 5, 16\), \(2, 7, 12\) and"),
    ("attention", attended(), [(2, 5, 16), (3, 7, 16), (3, 7, 12)], r"batch axes of \(2, 5, 16\) or 1 .* found \(3, 7"),
    ("attention", attended(["add"]), [(2, 5, 16), (2, 7, 16), (2, 7, 12)], "add lacks an input"),
    ("attention", attended(["add"]), [(5, 16), (7, 16), (7, 12), (3, 5, 7)], r"makes \(3, 5, 7\) of scores \(5, 7\)"),
    ("attention", attended(sink=True), [(5, 16), (7, 16), (7, 12)], "the sink is missing"),
    ("attention", attended(), [(5, 16), (7, 16), (7, 12), (1,)], "1 inputs more than its steps take"),
    ("elementwise", {"function": "add"}, [(2, 3), (4,)], "do not broadcast"),
    ("elementwise", {"function": "add"}, [(2, 3)], "add: expected 2 inputs, found 1"),
    ("elementwise", {"function": "relo"}, [(2, 3)], "unknown function 'relo'"),
    ("pool", window(1) | {"function": "median"}, [(1, 2, 8)], "found 'median'"),
    ("reduce", {"function": "sum", "axes": (3,), "keepdims": True}, [(2, 3)], "axis 3 is outside"),
    ("softmax", {"axis": 2}, [(2, 3)], "axis 2 is outside"),
    ("rope", {}, [(16, 64), (16, 64), (16, 64)], r"expected cos and sin of shape \(16, 32\)"),
    ("group_norm", {"groups": 4}, [(2, 6, 5)], "6 channels do not divide into 4 groups"),
    ("reshape", {"shape": (5, 5)}, [(2, 3, 4)], "does not have the elements"),
    ("transpose", {"perm": (0, 0)}, [(2, 3)], "does not order the axes"),
    ("slice", {"starts": (1,), "steps": (2,), "counts": (3,)}, [(5,)], "elements 1 to 5 by 2 leave axis 0"),
    ("pad", {"pad_begin": (-1,), "pad_end": (0,)}, [(5,)], "entries of 0 or more"),
    ("concat", {"axis": 0}, [(2, 3), (2, 4)], "differ beyond axis 0"),
    ("cache_update", {"axis": 0, "position": 3}, [(4, 2), (2, 2)], "do not fit a cache of 4"),
    ("batch_norm", {}, [(2, 6), (6,)], "expected 5 to 5 inputs, found 2"),
]


@pytest.mark.parametrize(("kind", "attributes", "inputs", "message"), ERRORS)
def test_errors(kind: str, attributes: dict[str, Any], inputs: list[Shape], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infer_shape(kind, attributes, inputs)


def test_same_padding_puts_the_odd_element_last() -> None:
    # 7 outputs of stride 2 from 13 by a kernel of 4: (7 - 1) * 2 + 4 - 13 = 3
    assert same_padding((13,), (4,), (2,), (1,)) == ((1,), (2,))
    assert same_padding((8,), (1,), (2,), (1,)) == ((0,), (0,))


def test_broadcast() -> None:
    assert broadcast_shape([(3, 1), (), (2, 1, 5)]) == (2, 3, 5)
