"""Stages of a pipeline work on an input each: the time between two results is that of the slowest stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sim
from sim.engine import run
from sim.graph.builder import GraphBuilder
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.hw.chip import load_chip
from sim.pipeline import plan, verify_values
from sim.program import Space
from sim.report.notes import notes

INPUTS = 6


@pytest.mark.parametrize(
    ("model", "chip", "options", "stages"),
    [
        # Tiles that the cores of a stage share come as multicasts.
        ("mobilenet_v2", "lepton_m", {}, 2),
        ("mobilenet_v2", "lepton_m", {}, 4),
        # The mask of the attentions comes with every input, and every stage reads it.
        ("gpt2", "lepton_m", {"phase": "prefill", "seq": 128, "attention": "stored"}, 8),
        # Many tasks of an attention wait for many stores through one task.
        ("gpt2", "lepton_s", {"phase": "prefill", "seq": 256, "attention": "fused"}, 2),
    ],
)
def test_results_follow_one_another_at_the_pace_of_the_slowest_stage(
    model: str, chip: str, options: dict[str, object], stages: int, tmp_path: Path
) -> None:
    file = tmp_path / "stages.yaml"
    file.write_text(f"version: 1\npipeline: {{stages: {stages}}}\n")
    _, _, program = plan(model, chip, dtype="bf16", partition=str(file), inputs=INPUTS, **options)  # type: ignore[arg-type]
    (segment,) = program.segments
    finish = run(program).segments[0].finish
    number = np.array([op.input_index for op in segment.ops])[segment.op]
    ends = np.array([finish[number == one].max() for one in range(INPUTS)])
    slowest_ps = 1e12 * max(part["time_s"] for part in program.facts["partition"]["parts"])
    assert np.diff(ends)[1:].mean() == pytest.approx(slowest_ps, rel=0.3)
    assert np.diff(ends)[1:].mean() < 0.75 * ends[0]


@pytest.mark.parametrize(("capacity", "most"), [("64 GiB", 9), ("300 KiB", 2)])
def test_no_input_overwrites_what_a_stage_still_reads(capacity: str, most: int) -> None:
    # More inputs than copies; seven layers, each added to the result of the first.
    builder = GraphBuilder("skips", "bf16")
    x = first = builder.linear(builder.input("x", (64, 64)), 64)
    for _ in range(7):
        x = builder.add(builder.linear(x, 64), first)
    chip = load_chip("lepton_m", {"dram.capacity": capacity})
    graph = builder.build([x])
    assert verify_values(graph, chip, partition="pipeline", inputs=12).passed
    _, _, program = plan(graph, chip, partition="pipeline", inputs=12, functional=True)
    (segment,) = program.segments
    assert segment.functional is not None
    columns = segment.functional
    places = {
        name: len(set(columns.address_bytes[(columns.tensor == row) & (columns.space == Space.DRAM)].tolist()))
        for row, name in enumerate(columns.tensors)
    }
    assert max(places.values()) == most


def test_kernels_of_one_stream_are_no_pipeline(tmp_path: Path) -> None:
    file = tmp_path / "stages.yaml"
    file.write_text("version: 1\npipeline: {stages: 2}\n")
    report = sim.simulate("mnist_mlp", "a100", dtype="fp16", partition=str(file), inputs=4)
    assert any("the stages of the pipeline follow one another" in line for line in notes(report, ()))
    parts = report.facts["partition"]["parts"]
    assert report.facts["partition"]["speedup"] == pytest.approx(
        report.facts["partition"]["one_core_s"] / sum(part["time_s"] for part in parts)
    )


@pytest.mark.parametrize("chip", ["lepton_m", "lepton_s"])
def test_attentions_of_stages_are_judged_on_a_core_of_their_own(chip: str) -> None:
    # One query of 8 heads meets 512 keys: on all 8 cores a fused kernel is faster, on one core the stored scores are.
    card = {
        "model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
        "max_position_embeddings": 4096, "sliding_window": None,
    }  # fmt: skip
    config = TransformerConfig.from_hf(card, "toy")
    model = transformer_graph(config, phase="decode", kv=512, batch=4, dtype="bf16")
    stored, fused, auto = (
        float(sim.simulate(model, chip, partition="pipeline", inputs=INPUTS, attention=how)["throughput_per_s"] or 0)
        for how in ("stored", "fused", "auto")
    )
    assert abs(stored / fused - 1) > 0.05
    assert auto == max(stored, fused)
