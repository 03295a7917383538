"""Machine code of two heaps: moments by tick, and the flows of a route by what is left of them."""

from __future__ import annotations

from sim.engine.records import FOREVER, NONE, Records
from sim.jit import jit_inline


@jit_inline
def push(heap: Records, size: int, tick: int, number: int) -> int:
    """Put a moment into a heap whose first entry is the earliest, of equal ones that of the lowest number; its size."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if heap[above].tick < tick or (heap[above].tick == tick and heap[above].number <= number):
            break
        heap[at].tick, heap[at].number = heap[above].tick, heap[above].number
        at = above
    heap[at].tick, heap[at].number = tick, number
    return size + 1


@jit_inline
def pop(heap: Records, size: int) -> int:
    """Take the first entry out of a heap; its size. An empty heap begins with FOREVER."""
    size -= 1
    if size == 0:
        heap[0].tick = FOREVER
        return 0
    tick, number = heap[size].tick, heap[size].number
    at, below = 0, 1
    while below < size:
        other = below + 1
        if other < size and (
            heap[other].tick < heap[below].tick
            or (heap[other].tick == heap[below].tick and heap[other].number < heap[below].number)
        ):
            below = other
        if tick < heap[below].tick or (tick == heap[below].tick and number < heap[below].number):
            break
        heap[at].tick, heap[at].number = heap[below].tick, heap[below].number
        at, below = below, 2 * below + 1
    heap[at].tick, heap[at].number = tick, number
    return size


@jit_inline
def meld(one: int, other: int, flows: Records) -> int:
    """Join two heaps of flows without siblings; the flow in front, which ends first.

    A pairing heap: Fredman, Sedgewick, Sleator and Tarjan, Algorithmica 1 (1986).
    """
    if flows[other].target < flows[one].target:
        one, other = other, one
    flows[other].sibling = flows[one].child
    flows[one].child = other
    return one


@jit_inline
def without_first(first: int, flows: Records) -> int:
    """Take the flow in front out of its heap; the one then in front, NONE if there is none."""
    pairs, child = NONE, flows[first].child
    while child != NONE:
        left, right = child, flows[child].sibling
        child = NONE
        if right != NONE:
            child = flows[right].sibling
            flows[left].sibling = flows[right].sibling = NONE
            left = meld(left, right, flows)
        flows[left].sibling = pairs
        pairs = left
    front = NONE
    while pairs != NONE:
        pair, pairs = pairs, flows[pairs].sibling
        flows[pair].sibling = NONE
        front = pair if front == NONE else meld(front, pair, flows)
    return front
