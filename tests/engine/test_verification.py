"""`verify_values`: what users run to have the numbers of a program checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from corruptions import corrupted, forgotten_part, half_of_the_accumulator, skipped_store
from mapped import mapped
from small_models import MODELS

import sim
from sim.engine import ordering, verification
from sim.engine.verification import ComparedTensor, Verification, verify
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.passes import default_passes
from sim.program import Program


def residual() -> tuple[Graph, Program]:
    graph = default_passes(MODELS["residual"]())
    return graph, mapped(graph, "crossbar of 4", partition="reduction")


def test_a_whole_model() -> None:
    found = sim.verify_values("lenet5", "tiny", dtype="fp32", inputs=2, partition="channel")
    assert found.passed
    assert (found.workload, found.chip, found.races, found.error) == ("lenet5", "tiny", 0, "")
    (logits,) = found.outputs
    assert (logits.elements, logits.exact) == (10, False)
    assert 0 < logits.largest_difference < 1e-12 * logits.largest_magnitude


def test_whole_numbers_agree_exactly() -> None:
    found = sim.verify_values("gemm:40x50x60", "lepton_s", dtype="int8", integers=True, seed=3)
    (product,) = found.outputs
    assert (product.elements, product.exact, product.largest_difference) == (2000, True, 0.0)
    rng = np.random.default_rng(3)
    a, b = rng.integers(-3, 4, (40, 60)), rng.integers(-3, 4, (60, 50))
    assert product.largest_magnitude == np.abs(a @ b).max()


def test_states_are_compared_too() -> None:
    graph = default_passes(MODELS["llama decode"]())
    found = verify(mapped(graph, "mesh of 8"), graph, "mesh of 8")
    assert found.passed
    states = {name for name, tensor in graph.tensors.items() if tensor.role == "state"}
    assert len(states) == 4
    assert {output.name for output in found.outputs} == states | set(graph.outputs)


@pytest.mark.parametrize("chip", ["tiny", "lepton_s"])
def test_outputs_in_another_shape_are_compared(chip: str) -> None:
    """With a host link (lepton_s) and without: then no task touches the output under its own name."""
    b = GraphBuilder("views", "int8")
    product = b.linear(b.input("x", (6, 16)), 8)
    outputs = [b.reshape(product, (2, 3, 8)), b.reshape(b.reshape(b.relu(product), (48,)), (16, 3))]
    found = sim.verify_values(b.build(outputs), chip)
    assert found.passed
    assert [(output.name, output.elements) for output in found.outputs] == [(name, 48) for name in outputs]


def test_a_wrong_number_fails() -> None:
    graph, program = residual()
    assert verify(program, graph, "c", integers=True).passed
    found = verify(corrupted(program, forgotten_part), graph, "c", integers=True)
    assert not found.passed
    assert found.outputs[0].largest_difference >= 1
    assert found.error == ""


def test_an_error_fails() -> None:
    graph, program = residual()
    found = verify(corrupted(program, skipped_store), graph, "c")
    assert not found.passed
    assert "not been written" in found.error
    assert found.outputs == ()


def test_a_race_fails() -> None:
    graph, program = residual()
    found = verify(corrupted(program, half_of_the_accumulator), graph, "c")
    assert not found.passed
    assert found.races is not None
    assert found.races > 0


def test_too_many_tasks_for_the_order_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, program = residual()
    for module in (ordering, verification):
        monkeypatch.setattr(module, "MAX_TASKS", 100)
    found = verify(program, graph, "c")
    assert found.races is None
    assert found.passed


@pytest.mark.parametrize(
    ("difference", "magnitude", "exact", "passed"),
    [
        (0.9e-6, 1000.0, False, True),
        (1.1e-6, 1000.0, False, False),
        (1e-12, 0.0, False, False),
        (0.0, 0.0, False, True),
        (1e-9, 1e9, True, False),
        (float("nan"), 1.0, False, False),
        (float("inf"), 1.0, False, False),
    ],
)
def test_what_may_differ(difference: float, magnitude: float, exact: bool, passed: bool) -> None:
    output = ComparedTensor("y", 1, difference, magnitude, exact)
    assert output.passed is passed
    found = Verification("model", "chip", 1, (output,), 0)
    assert found.passed is passed
    assert not replace(found, races=1).passed
    assert not replace(found, error="something").passed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "gpt2", "phase": "generate", "seq": 8, "new_tokens": 4}, "several passes"),
        ({"model": "gemm:64x20000x20000", "dtype": "int8"}, "at most 268,435,456"),
    ],
)
def test_what_cannot_be_compared(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        sim.verify_values(chip="lepton_m", **options)


def test_a_model_of_zero_weights_is_checked_with_numbers_that_tell() -> None:
    builder = GraphBuilder("empty", "fp32")
    weight = builder.weight((64, 32), value=np.zeros((64, 32), np.float32))
    graph = builder.build([builder.matmul(builder.input("x", (8, 64)), weight)])
    found = sim.verify_values(graph.with_dtype("int8"), "tiny")
    assert found.passed
    assert found.outputs[0].largest_magnitude > 0.1
