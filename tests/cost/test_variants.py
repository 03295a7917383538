"""Many designs, each with its attentions as one operator or as several, whichever the closed form says is faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_chips import base_chip, random_columns

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

TINY: dict[str, Any] = {"dtype": "int8", "phase": "prefill", "seq": 600}
ROW = (
    "latency_s", "energy_j", "peak_power_w", "dram_read_bytes", "sram_write_bytes", "bound_latency_s", "macs", "error"
)  # fmt: skip


def two_attentions() -> Graph:
    """Long queries over few keys and few queries over many keys, in one model."""
    b = GraphBuilder("two", "int8")
    outs = []
    for queries, keys, name in ((700, 48, "long"), (3, 900, "short")):
        sizes = zip("qkv", (queries, keys, keys), strict=True)
        q, k, v = (b.input(f"{name}.{one}", (4, size, 32)) for one, size in sizes)
        outs.append(b.matmul(b.softmax(b.matmul(q, k, transpose_b=True)), v))
    return b.build(outs)


@pytest.mark.parametrize("slow", [False, True], ids=["", "slow lanes"])
def test_every_design_has_the_faster_of_both(slow: bool) -> None:
    """Of one attention: the row of a design is that of the faster model, to the last bit."""
    columns = random_columns(24, seed=3) | ({"core.vector.lanes": [4, 8, 16] * 8} if slow else {})
    rows = {
        how: sim.bound("gpt2", base_chip(), columns, attention=how, **TINY) for how in ("stored", "fused", "auto")
    }
    fuses = (rows["fused"]["latency_s"] < rows["stored"]["latency_s"]).to_numpy()
    assert 0 < fuses.sum() < 24 or slow
    for name in ROW:
        wanted = np.where(fuses, rows["fused"][name], rows["stored"][name])
        assert (rows["auto"][name].to_numpy() == wanted).all(), name


def test_each_attention_is_chosen_by_itself() -> None:
    graph, columns = two_attentions(), random_columns(40, seed=5)
    stored, fused, auto = (
        sim.bound(graph, base_chip(), columns, attention=how)["latency_s"] for how in ("stored", "fused", "auto")
    )
    assert (auto <= np.minimum(stored, fused) * (1 + 1e-12)).all()
    assert (auto < np.minimum(stored, fused) * (1 - 1e-6)).any()
