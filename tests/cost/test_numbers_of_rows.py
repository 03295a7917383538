"""What lanes do with one number of a row, by whole registers: its sums by halves, and functions of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.cost.element_passes import across_lanes
from sim.cost.online import row_passes
from sim.graph.attention import ROW_PASSES
from sim.graph.builder import GraphBuilder
from sim.graph.nest import Nest
from sim.hw.chip import load_chip
from sim.hw.vector import VectorUnit

PLAIN = load_chip("lepton_m").cores[0]
REGISTERS = replace(PLAIN, vector=VectorUnit(lanes=1024, register_shape=(8, 128)))


def norm(kind: str, length: int) -> Nest:
    b = GraphBuilder(kind, "bf16")
    x = b.input("x", (16, length))
    y = {"layer_norm": b.layer_norm, "rms_norm": b.rms_norm, "softmax": b.softmax}[kind](x)
    ((nest,),) = b.build([y]).nests
    return nest


@pytest.mark.parametrize(
    ("kind", "length", "passes"),
    [
        # Two sums by 7 halves each and one more addition, on one register of four.
        ("layer_norm", 512, {"add": 3.75, "mul": 0.5, "rsqrt": 0.25}),
        ("layer_norm", 100, {"add": 15.0, "mul": 2.0, "rsqrt": 1.0}),
        # One sum; a register more for the last element.
        ("rms_norm", 513, {"add": 8 / 5, "mul": 1 / 5, "rsqrt": 1 / 5}),
        # The largest and a sum.
        ("softmax", 256, {"add": 7.0, "reciprocal": 0.5}),
    ],
)
def test_a_row_ends_within_a_register(kind: str, length: int, passes: dict[str, float]) -> None:
    assert across_lanes(norm(kind, length), REGISTERS) == passes
    assert across_lanes(norm(kind, length), PLAIN) == {}


def test_a_block_of_scores_ends_within_a_register() -> None:
    """Of every row the largest of a block and a sum, by 7 halves each."""
    assert row_passes(REGISTERS) == {**ROW_PASSES, "add": 1.0 + 14.0}
    assert row_passes(PLAIN) == ROW_PASSES
