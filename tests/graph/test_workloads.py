"""Every file of workloads/ builds and agrees with the figures that it quotes."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_families import learned

from sim.graph.load import Workload, list_models, load_model, load_workload

ROWS = list_models()


def workload(path: Path) -> Workload:
    return load_workload(path)[1]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_published_figures(row) -> None:
    entry = workload(row.path)
    graph = load_model(row.name)
    assert graph.name == row.name
    if entry.expected is None:
        assert graph.macs == 0  # only vector operators have nothing to quote
        return
    assert entry.expected.source
    if entry.expected.macs is not None:
        assert graph.macs == pytest.approx(entry.expected.macs, rel=entry.expected.macs_tolerance)
    if entry.expected.parameters is not None:
        tolerance = entry.expected.parameters_tolerance
        assert learned(graph) == pytest.approx(entry.expected.parameters, rel=tolerance, abs=0)


def test_the_shelf_is_complete() -> None:
    found = {row.name: row.domain for row in ROWS}
    for domain, names in {
        "vision": "lenet5 mnist_mlp alexnet vgg16 resnet18 resnet50 mobilenet_v2 yolov3 unet",
        "language": "bert_base gpt2 llama2_7b transformer_mt",
        "speech": "lstm conformer",
        "recommend": "dlrm",
        "micro": "gemm_1024 conv3x3 softmax_4096",
    }.items():
        assert {found[name] for name in names.split()} == {domain}


@pytest.mark.parametrize("name", ["gpt2", "llama2_7b", "transformer_mt"])
def test_language_models_decode_without_further_options(name: str) -> None:
    """A decode step reads every weight for a handful of MACs each."""
    graph = load_model(name, phase="decode")
    assert graph.items == 1
    assert 0.5 < graph.macs / learned(graph) < 1.2


def test_macs_of_the_translation_model() -> None:
    """Vaswani et al. 2017, base, 32 source tokens and one target token: d = 512, FFN 2048, 6 + 6 layers."""
    source, d, ffn = 32, 512, 2048
    encoder = source * (4 * d * d + 2 * d * ffn) + 2 * source * source * d
    decoder = 6 * d * d + 2 * source * d * d + 2 * d * ffn + 2 * d + 2 * source * d
    assert load_model("transformer_mt").macs == 6 * (encoder + decoder) + d * 37000


def test_macs_of_the_conformer() -> None:
    """Gulati et al. 2020, 1000 frames: 80 bands halve twice to 19, frames to T = 249."""
    t, d, heads, kernel = 249, 512, 8, 32
    subsample = 499 * 39 * 9 * d + t * 19 * 9 * d * d + t * 19 * d * d
    feed_forward = 2 * t * 2 * d * 4 * d
    attention = 4 * t * d * d + (2 * t - 1) * d * d + heads * (d // heads) * t * (2 * t + 2 * t - 1)
    convolution = t * 2 * d * d + t * d * kernel + t * d * d
    assert load_model("conformer").macs == subsample + 17 * (feed_forward + attention + convolution)


def test_macs_of_unet() -> None:
    """Figure 1 of Ronneberger et al.: extents after each convolution, channels 64 to 1024."""
    down = [(570, 568), (282, 280), (138, 136), (66, 64), (30, 28)]
    up = [(54, 52), (102, 100), (198, 196), (390, 388)]
    total = 0
    for level, (first, second) in enumerate(down):
        width = 64 << level
        total += 9 * (first**2 * (1 if level == 0 else width // 2) * width + second**2 * width**2)
    for level, (first, second) in zip((3, 2, 1, 0), up, strict=True):
        width = 64 << level
        total += (first + 2) ** 2 * 2 * width * width  # 2 x 2, stride 2: one tap per output element
        total += 9 * (first**2 * 2 * width * width + second**2 * width**2)
    assert load_model("unet").macs == total + 388**2 * 64 * 2
