"""Groups of cores over every memory port and link of an interconnect, counted along their routes: see wires.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.nest_tables import AXES, BITS, DIMS, OPERANDS, TOUCHES
from sim.cost.tiles import extent_of
from sim.cost.wires import CROSSBAR, GIVEN, LINK, PLACED, PORT, ROUND, WORTH, Wires
from sim.jit import jit, jit_bare


@jit_bare
def _cross(w: Wires, source: int, goal: int, mark: float, marks: Any, counts: Any) -> None:
    """Count the links from one node to another that do not bear the `mark` yet. Those of a node are numbered from
    len(ports) + 4 x its number on: onwards along a row, backwards, onwards along a column, backwards."""
    first = len(w.port_node)
    if source == goal:
        return
    if w.topology == CROSSBAR:
        _count(first + 4 * source, mark, marks, counts)
        _count(first + 4 * goal + 1, mark, marks, counts)
        return
    row, col = source // w.cols, source % w.cols
    for axis in range(2):
        size, at, end = (w.cols, col, goal % w.cols) if axis == 0 else (w.rows, row, goal // w.cols)
        steps = end - at
        if w.topology == ROUND:
            onwards = (end - at + size) % size
            steps = onwards if 2 * onwards <= size else onwards - size
        for _ in range(abs(steps)):
            back = 1 if steps < 0 else 0
            _count(first + 4 * (row * w.cols + col) + 2 * axis + back, mark, marks, counts)
            if axis == 0:
                col = (col + 1 - 2 * back + size) % size
            else:
                row = (row + 1 - 2 * back + size) % size


@jit_bare
def _count(link: int, mark: float, marks: Any, counts: Any) -> None:
    if marks[link] != mark:
        marks[link] = mark
        counts[link] += 1.0


class Grid(NamedTuple):
    """Memory for one split: nodes of its cores by place in the grid, and a row of them; of an operand, the place that
    follows in the same group and the first of a group (-1: none)."""

    nodes: Any
    line: Any
    following: Any
    leads: Any


@jit_bare
def _fill_nodes(w: Wires, g: Grid, order: int, used: int, first: int, last: int) -> None:
    """The nodes of a split's cores in one of four orders: from the third on the cores are taken along the other axis of
    the network, in every other one along the other axis of the grid of `first` x `last`."""
    count = 0
    if order < 2:
        for place in range(used):
            g.line[place] = w.cores[place]
    else:
        for place in w.across:
            if place < used:
                g.line[count] = w.cores[place]
                count += 1
    if order % 2 == 0:
        for place in range(used):
            g.nodes[place] = g.line[place]
        return
    for i in range(first):
        for j in range(last):
            g.nodes[i * last + j] = g.line[j * first + i]


@jit_bare
def _fill_groups(g: Grid, dims: int, split: Any, touches: int, used: int) -> None:
    """Cores whose places differ in loops that an operand has something to do with (`touches`) have boxes of their own,
    the others one together."""
    for place in range(used):
        g.leads[place], g.following[place] = -1, -1
    for back in range(used):
        place = used - 1 - back
        group, rest, stride = 0, place, used
        for dim in range(dims):
            if split[dim] > 1:
                stride //= split[dim]
                if (touches >> dim) & 1:
                    group = group * split[dim] + rest // stride
                rest %= stride
        g.following[place], g.leads[group] = g.leads[group], place


@jit_bare
def _crossings(w: Wires, g: Grid, used: int, store: bool, marks: Any, mark: float, counts: Any) -> float:
    """Groups of cores over every port and link, into `counts`; the last mark made. A group loads from the port of the
    first of its cores, who alone stores."""
    for group in range(used):
        place = g.leads[group]
        if place < 0:
            break
        mark += 1.0
        port = w.port_of[g.nodes[place]]
        _count(port, mark, marks, counts)
        if store:
            _cross(w, g.nodes[place], w.port_node[port], mark, marks, counts)
            continue
        while place >= 0:
            _cross(w, w.port_node[port], g.nodes[place], mark, marks, counts)
            place = g.following[place]
    return mark


@jit_bare
def _busiest(counts: Any, sizes: Any, last: int, start: int, stop: int) -> tuple[int, float]:
    """Of the links `start` to `stop` the busiest with the operands up to the `last`, and its bytes."""
    best, most = start, -1.0
    for link in range(start, stop):
        total = 0.0
        for operand in range(last + 1):
            total += counts[operand, link] * sizes[operand]
        if total > most:
            best, most = link, total
    return best, most


@jit_bare
def _fill_sizes(t: Any, nest: int, split: Any, sizes: Any) -> None:
    """Bytes that a group of cores loads of every operand, each once."""
    for operand in range(t.nests[nest, OPERANDS] + 1):
        size = t.operands[nest, operand, BITS] * 0.125
        for axis in range(t.operands[nest, operand, AXES]):
            size *= extent_of(t, nest, operand, axis, t.extent[nest])
        for dim in range(t.nests[nest, DIMS]):
            if (t.operands[nest, operand, TOUCHES] >> dim) & 1:
                size /= split[dim]
        sizes[operand] = size


@jit_bare
def _form(w: Wires, t: Any, nest: int, split: Any) -> tuple[int, int, int, int]:
    """(cores of a split, sides of its grid, orders of the cores to be tried). Those that share sums stay neighbours,
    and all ways through a crossbar are alike."""
    used, first, last, several, summed = 1, 1, 1, 0, False
    for dim in range(t.nests[nest, DIMS]):
        if split[dim] > 1:
            used, first, last, several = used * split[dim], last, split[dim], several + 1
            summed = summed or t.role[nest, dim] == 3
    free = several == 2 and not summed and w.topology != CROSSBAR
    return used, first, last, 4 if free else 1


@jit
def count_groups(w: Wires, t: Any, nest: int, splits: Any, found: Any, best: Any) -> None:
    """How many groups of cores load every operand (the owners of results, last, store) through the busiest memory port
    and over the busiest link, into `found` [splits, GIVEN or PLACED, operands, PORT or LINK], under every partition
    `splits` [splits, dims] of a nest over the first cores; into `best` [splits] which of the orders of `_fill_nodes` is
    PLACED."""
    ports, operands, dims = len(w.port_node), t.nests[nest, OPERANDS], t.nests[nest, DIMS]
    links, cores = ports + 4 * w.rows * w.cols, len(w.cores)
    marks, mark, sizes = np.zeros(links), 0.0, np.empty(operands + 1)
    counts = np.empty((operands + 1, links))
    memory = np.empty((4, cores), np.int64)
    g = Grid(memory[0], memory[1], memory[2], memory[3])
    for row in range(len(splits)):
        split = splits[row]
        used, first, last, orders = _form(w, t, nest, split)
        _fill_sizes(t, nest, split, sizes)
        least = np.inf
        for order in range(orders):
            _fill_nodes(w, g, order, used, first, last)
            counts[:] = 0.0
            for operand in range(operands + 1):
                _fill_groups(g, dims, split, t.operands[nest, operand, TOUCHES], used)
                mark = _crossings(w, g, used, operand == operands, marks, mark, counts[operand])
            # Where tiles are few, stores wait for the last loads: of them no order makes much.
            _, on_port = _busiest(counts, sizes, operands - 1, 0, ports)
            _, on_link = _busiest(counts, sizes, operands - 1, ports, links)
            busiest = max(on_port * w.port_s, on_link)
            if busiest >= WORTH * least:
                continue
            port, _ = _busiest(counts, sizes, operands, 0, ports)
            link, _ = _busiest(counts, sizes, operands, ports, links)
            least, best[row] = busiest, order
            for operand in range(operands + 1):
                for which in range(GIVEN if order == 0 else PLACED, PLACED + 1):
                    found[row, which, operand, PORT] = counts[operand, port]
                    found[row, which, operand, LINK] = counts[operand, link]
