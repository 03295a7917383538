"""Attention, and what ONNX Runtime's optimisers fuse, against ONNX Runtime: output shape and numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_models import build, compare, load

from sim.errors import InputError
from sim.graph.graph import Graph

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)
B, S, H, D = 2, 5, 4, 16


def f(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def bits(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def check(
    folder: Path,
    op_type: str,
    inputs: list[Array | None],
    outputs: int = 1,
    constant: frozenset[int] = frozenset(),
    domain: str = "com.microsoft",
    opset: int = 17,
    skipped: frozenset[int] = frozenset(),
    **attributes: Any,
) -> Graph:
    """Absent inputs are None; those of `constant` are constants, `skipped` outputs have no name."""
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    given = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    constants = {f"x{index}": given.pop(f"x{index}") for index in constant}
    results = ["" if index in skipped else f"y{index}" for index in range(outputs)]
    node = helper.make_node(op_type, names, results, domain=domain, name="n", **attributes)
    model = build([node], given, [name for name in results if name], constants, opset, {domain: 1} if domain else {})
    return compare(model, given, folder)


KEPT = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
LENGTHS = np.array([4, 2], np.int32)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ([f(B, S, H * D)] * 3, {}),
        ([f(B, S, H * D), f(B, 7, H * D), f(B, 7, H * 3)], {"scale": 0.3}),
        ([f(B, S, H * D)] * 3, {"unidirectional": 1}),
        ([f(B, S, H * D)] * 3 + [f(3 * H * D), KEPT], {}),
        ([f(B, S, H * D)] * 3 + [None, LENGTHS], {"mask_filter_value": -50.0}),
        ([f(B, S, H * D)] * 3 + [None, None, f(B, H, S, S)], {}),
        ([f(B, S, H * D), f(B, H, 7, D), f(B, H, 7, D)], {}),
    ],
)
def test_multi_head_attention(inputs: list[Array | None], attributes: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, "MultiHeadAttention", inputs, num_heads=H, **attributes)


def test_multi_head_attention_with_a_past(tmp_path: Path) -> None:
    inputs = [f(B, 1, H * D)] * 3 + [None, None, None, f(B, H, 6, D), f(B, H, 6, D)]
    graph = check(tmp_path, "MultiHeadAttention", inputs, 3, num_heads=H)
    assert graph.macs == 2 * B * H * 7 * D


@pytest.mark.parametrize(
    ("mask", "attributes"),
    [(None, {}), (KEPT, {}), (LENGTHS, {}), (None, {"unidirectional": 1, "scale": 0.2})],
)
def test_packed_attention(mask: Array | None, attributes: dict[str, Any], tmp_path: Path) -> None:
    inputs = [f(B, S, 16), f(16, 3 * H * D), f(3 * H * D), mask]
    graph = check(tmp_path, "Attention", inputs, constant=frozenset({1, 2}), num_heads=H, **attributes)
    assert graph.macs == B * S * 16 * 3 * H * D + 2 * B * H * S * S * D


def test_packed_attention_with_a_past(tmp_path: Path) -> None:
    inputs = [f(B, 2, 16), f(16, 3 * H * D), f(3 * H * D), None, f(2, B, H, 3, D)]
    check(tmp_path, "Attention", inputs, 2, frozenset({1, 2}), num_heads=H, unidirectional=1)


@pytest.mark.parametrize("rotary", [0, 1])
@pytest.mark.parametrize(("tokens", "past", "window"), [(S, 0, -1), (1, 6, -1), (1, 6, 3)])
def test_grouped_attention(tokens: int, past: int, window: int, rotary: int, tmp_path: Path) -> None:
    angles = RNG.uniform(0, 6, (16, D // 2)).astype(np.float32)
    total = past + tokens
    inputs: list[Array | None] = [f(B, tokens, H * D), f(B, tokens, 2 * D), f(B, tokens, 2 * D)]
    inputs += [f(B, 2, past, D), f(B, 2, past, D)] if past else [None, None]
    inputs += [np.full(B, total - 1, np.int32), np.array([total], np.int32)]
    inputs += [np.cos(angles), np.sin(angles)] if rotary else []
    constants = frozenset({6, *((7, 8) if rotary else ())})
    attributes = {"num_heads": H, "kv_num_heads": 2, "do_rotary": rotary, "local_window_size": window}
    graph = check(tmp_path, "GroupQueryAttention", inputs, 3, constants, **attributes)
    assert graph.macs == 2 * B * H * tokens * total * D


@pytest.mark.parametrize(("held", "past"), [(9, 6), (9, 1), (9, 0), (6, 6)])
def test_a_cache_that_is_not_full(held: int, past: int, tmp_path: Path) -> None:
    """One buffer for all that will come, as runtimes have it: the total says how much of it counts."""
    angles = RNG.uniform(0, 6, (16, D // 2)).astype(np.float32)
    given = {"q": f(B, 1, H * D), "k": f(B, 1, 2 * D), "v": f(B, 1, 2 * D), "pk": f(B, 2, held, D)}
    given |= {"pv": f(B, 2, held, D), "lengths": np.full(B, past, np.int32)}
    known = {"total": np.array([past + 1], np.int32), "cos": np.cos(angles), "sin": np.sin(angles)}
    node = helper.make_node(
        "GroupQueryAttention", [*given, *known], ["y", "key", "value"], domain="com.microsoft", name="n",
        num_heads=H, kv_num_heads=2, do_rotary=1,
    )  # fmt: skip
    graph = compare(build([node], given, ["y"], known, 17, {"com.microsoft": 1}), given, tmp_path)
    assert graph.macs == 2 * B * H * (past + 1) * D


def test_a_total_beyond_the_cache_is_refused(tmp_path: Path) -> None:
    given = {"q": f(B, 1, H * D), "k": f(B, 1, 2 * D), "v": f(B, 1, 2 * D), "pk": f(B, 2, 4, D), "pv": f(B, 2, 4, D)}
    given["lengths"], known = np.full(B, 5, np.int32), {"total": np.array([6], np.int32)}
    node = helper.make_node(
        "GroupQueryAttention", [*given, *known], ["y", "key", "value"], domain="com.microsoft", name="n", num_heads=H,
        kv_num_heads=2,
    )  # fmt: skip
    with pytest.raises(InputError, match="a total of 6 tokens, 1 of them new, does not fit a cache of 4"):
        load(build([node], given, ["y"], known, 17, {"com.microsoft": 1}), tmp_path)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [np.array([[3, 1, 0, 2, 4], [0, 1, 2, 3, 9]]), np.array([4])])
def test_rotary_embedding(interleaved: int, positions: Array, tmp_path: Path) -> None:
    angles = RNG.uniform(0, 6, (16, D // 2)).astype(np.float32)
    inputs = [f(B, S, H * D), positions, np.cos(angles), np.sin(angles)]
    check(tmp_path, "RotaryEmbedding", inputs, constant=frozenset({2, 3}), interleaved=interleaved)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ([f(B, H, S, D), f(B, 2, 6, D), f(B, 2, 6, D)], {}),
        ([f(B, H, S, D), f(B, H, S, D), f(B, H, S, 3)], {"is_causal": 1, "scale": 0.2}),
        ([f(B, S, H * D), f(B, 6, 2 * D), f(B, 6, 2 * D)], {"q_num_heads": H, "kv_num_heads": 2}),
        ([f(B, H, S, D), f(B, H, S, D), f(B, H, S, D), f(S, S)], {}),
        ([f(B, H, S, D), f(B, H, S, D), f(B, H, S, D), np.tri(S) > 0], {"softcap": 0.7}),
    ],
)
def test_attention(inputs: list[Array | None], attributes: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, "Attention", inputs, domain="", opset=23, **attributes)


def test_attention_with_a_past(tmp_path: Path) -> None:
    inputs = [f(B, H, 2, D), f(B, 2, 2, D), f(B, 2, 2, D), None, f(B, 2, 4, D), f(B, 2, 4, D)]
    graph = check(tmp_path, "Attention", inputs, 3, domain="", opset=23, is_causal=1)
    assert graph.macs == 2 * B * H * 2 * 6 * D
    assert [op.kind for op in graph.ops].count("matmul") == 2


@pytest.mark.parametrize("bias", [None, f(16)])
def test_skip_norms(bias: Array | None, tmp_path: Path) -> None:
    inputs = [f(B, S, 16), f(B, S, 16), f(16)]
    skipped = frozenset({1, 2})
    check(tmp_path, "SkipLayerNormalization", [*inputs, f(16), bias], 4, skipped=skipped, epsilon=1e-3)
    check(tmp_path, "SkipSimplifiedLayerNormalization", [*inputs, bias], 4, skipped=skipped)


def test_embeddings(tmp_path: Path) -> None:
    ids, segments = (RNG.integers(0, 2, (B, S)).astype(np.int32) for _ in range(2))
    tables = {"words": f(9, 16), "places": f(12, 16), "kinds": f(2, 16), "scale": f(16), "bias": f(16)}
    names = ["ids", "segments", *tables, "kept"]
    node = helper.make_node("EmbedLayerNormalization", names, ["y", "count"], domain="com.microsoft")
    feeds = {"ids": ids, "segments": segments, "kept": KEPT}
    compare(build([node], feeds, ["y"], tables, domains={"com.microsoft": 1}), feeds, tmp_path)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("FastGelu", [f(3, 8), f(8)], {}),
        ("FastGelu", [f(3, 8)], {}),
        ("BiasGelu", [f(3, 8), f(8)], {}),
        ("Gelu", [f(3, 8)], {}),
        ("QuickGelu", [f(3, 8)], {"alpha": 1.2}),
        ("FusedMatMul", [f(2, 4, 3), f(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.3}),
        ("FusedGemm", [f(3, 4), f(4, 5), f(5)], {"activation": "LeakyRelu", "activation_alpha": 0.2}),
        ("FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3), f(4)], {"activation": "Relu"}),
        ("FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3), f(4), f(1, 4, 4, 4)], {"activation": "Relu"}),
    ],
)
def test_fused_functions(op_type: str, inputs: list[Array | None], attributes: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, op_type, inputs, **attributes)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("depth", [64, 80])
def test_weights_of_four_bits(depth: int, zeros: bool, tmp_path: Path) -> None:
    n, block = 6, 32
    blocks = math.ceil(depth / block)
    inputs: list[Array | None] = [f(3, depth), bits(n, blocks, block // 2), f(n * blocks) ** 2 + np.float32(0.1)]
    inputs += [bits(n * math.ceil(blocks / 2))] if zeros else []
    constants = frozenset({1, 2, *((3,) if zeros else ())})
    attributes = {"K": depth, "N": n, "bits": 4, "block_size": block}
    graph = check(tmp_path, "MatMulNBits", inputs, constant=constants, **attributes)
    sizes = {tensor.name: tensor.size_bytes for tensor in graph.tensors.values() if tensor.role == "weight"}
    assert sizes == {
        "n.weight": n * depth // 2, "n.scale": 4 * n * blocks, **({"n.zero": n * blocks // 2} if zeros else {}),
    }  # fmt: skip
    assert graph.macs == 3 * n * depth


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "text"),
    [
        ("MultiHeadAttention", [f(B, S, H, 3, D)], {"num_heads": H}, "packed queries, keys and values"),
        ("MultiHeadAttention", [f(B, S, 15)] * 3, {"num_heads": H}, "a width of 15 does not divide into 4 heads"),
        ("FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3)], {"activation": "Sin"}, "activation = 'Sin'"),
        ("FusedMatMul", [f(4, 2, 3), f(2, 4, 5)], {"transBatchA": 1}, "transBatchA = 1; supported: 0"),
    ],
)
def test_refusals(op_type: str, inputs: list[Array], attributes: dict[str, Any], text: str, tmp_path: Path) -> None:
    feeds = {f"x{index}": value for index, value in enumerate(inputs)}
    node = helper.make_node(op_type, list(feeds), ["y"], domain="com.microsoft", name="n", **attributes)
    with pytest.raises(InputError, match=text):
        load(build([node], feeds, ["y"], None, 17, {"com.microsoft": 1}), tmp_path)
