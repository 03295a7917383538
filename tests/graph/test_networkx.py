"""A model as a graph of networkx."""

from __future__ import annotations

import networkx as nx
import pytest

from sim.graph.load import load_plan


@pytest.mark.parametrize("model", ["resnet50", "yolov3", "gpt2", "lstm"])
def test_edges_are_the_tensors_that_pass_between_operators(model: str) -> None:
    graph = load_plan(model, dtype="int8")[0][0]
    digraph = graph.to_networkx()
    assert nx.is_directed_acyclic_graph(digraph)
    assert sum(macs for _, macs in digraph.nodes(data="macs")) == graph.macs
    passed = {(name, reader) for name, readers in graph.consumers.items() for reader in readers}
    # What is written later than it is read is the state of the step before, as a KV cache is.
    passed = {(name, reader) for name, reader in passed if graph.producers.get(name, reader) < reader}
    assert {(name, reader) for _, reader, name in digraph.edges(data="tensor")} == passed
    assert digraph.number_of_edges() == len(passed)
    for writer, _, found in digraph.edges(data=True):
        assert graph.ops[writer].result == found["tensor"]
        assert found["nbytes"] == graph.tensors[found["tensor"]].size_bytes


def test_the_longest_path_of_resnet50_goes_through_its_convolutions_of_three() -> None:
    digraph = load_plan("resnet50", dtype="int8")[0][0].to_networkx()
    for _, reader, edge in digraph.edges(data=True):
        edge["macs"] = digraph.nodes[reader]["macs"]
    path = nx.dag_longest_path(nx.DiGraph(digraph), weight="macs")
    kernels = [digraph.nodes[node]["op"] for node in path if digraph.nodes[node]["macs"] > 0]
    # The first convolution, one of 3 x 3 between two of 1 x 1 in each of the 16 blocks, and the classifier.
    assert len(kernels) == 1 + 3 * 16 + 1
