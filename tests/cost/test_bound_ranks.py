"""How the bound ranks chips, beside the events."""

from __future__ import annotations

import pandas as pd
from random_chips import base_chip, random_chips, random_columns

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

CHIPS = 40


def small_network() -> Graph:
    """Convolutions with a residual, a pooling and a classifier: memory-bound and compute-bound layers."""
    b = GraphBuilder("small", "int8")
    x = b.relu(b.conv(b.input("x", (1, 16, 28, 28)), 64, 3, padding="same"))
    x = b.relu(b.add(b.conv(x, 64, 3, padding="same"), x))
    x = b.relu(b.conv(b.pool(x, "max", 2, 2), 128, 3, padding="same"))
    x = b.reshape(b.pool(x, "average", 14, 14), (1, 128))
    return b.build([b.linear(b.relu(b.linear(x, 1024)), 100)])


def test_the_bound_ranks_random_chips_as_the_events_do() -> None:
    graph = small_network()
    bound = sim.bound(graph, base_chip(), random_columns(CHIPS, seed=11))
    reports = [sim.simulate(graph, chip) for chip in random_chips(CHIPS, seed=11)]
    event = pd.DataFrame([report.to_json() for report in reports])
    assert (bound["error"] == "").all()
    assert bound["latency_s"].corr(event["latency_s"], method="spearman") > 0.93
    assert bound["energy_j"].corr(event["energy_j"], method="spearman") > 0.9
    ratio = event["latency_s"] / bound["latency_s"]
    assert ratio.quantile(0.05) > 0.7
    assert ratio.quantile(0.95) < 1.4
