"""Placement by liveness."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.mapping.allocate import Span, place

CAPACITY = 64 * 40


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    found = []
    for number in range(draw(st.integers(1, 12))):
        first = draw(st.integers(0, 6))
        last = first + draw(st.sampled_from([0, 0, 1, 3]))
        found.append(Span(f"s{number}", draw(st.integers(1, 64 * 12)), first, last))
    return found


@given(spans(), st.booleans(), st.sampled_from([0, 128]))
def test_spans_that_live_together_do_not_overlap(found: list[Span], alternate: bool, base: int) -> None:
    layout, failed = place(found, CAPACITY, alternate=alternate, base_bytes=base)
    assert (failed is None) == (len(layout.address_bytes) == len(found))
    placed = [span for span in found if span.name in layout.address_bytes]
    for span in placed:
        start = layout.address_bytes[span.name]
        assert start % 64 == 0
        assert base <= start
        assert start + span.size_bytes <= CAPACITY
    for a, b in itertools.combinations(placed, 2):
        if a.first <= b.last and b.first <= a.last:
            low, high = layout.address_bytes[a.name], layout.address_bytes[b.name]
            assert low + a.size_bytes <= high or high + b.size_bytes <= low, (a, b)
    assert layout.live_bytes <= layout.peak_bytes <= CAPACITY
    live = [
        base + sum(-(-s.size_bytes // 64) * 64 for s in placed if s.first <= step <= s.last)
        for step in range(10)
    ]
    assert layout.live_bytes == max(live)


def test_peak_live_and_fragmentation_by_hand() -> None:
    """Freed 128 B at the bottom are too small for 192 B, which go on top: 448 B reached for 320 B live."""
    steps = [Span("a", 128, 0, 1), Span("b", 128, 0, 3), Span("c", 192, 2, 3)]
    layout, failed = place(steps, 1024)
    assert failed is None
    assert layout.address_bytes == {"a": 0, "b": 128, "c": 256}
    assert (layout.peak_bytes, layout.live_bytes) == (448, 320)
    assert layout.fragmentation == pytest.approx(1 - 320 / 448)


def test_odd_steps_are_placed_from_the_top() -> None:
    """So the buffers of a step can fill while those of the step before are still read."""
    layout, _ = place([Span("even", 100, 0, 0), Span("odd", 100, 1, 1)], 1024, alternate=True)
    assert layout.address_bytes == {"even": 0, "odd": 896}
    assert (layout.peak_bytes, layout.live_bytes) == (128, 128)


def test_what_does_not_fit_is_named() -> None:
    layout, failed = place([Span("a", 640, 0, 2), Span("b", 448, 1, 1)], 1024)
    assert failed == "b"
    assert set(layout.address_bytes) == {"a"}


def first_fit(found: list[Span], capacity: int, alternate: bool, base: int) -> dict[str, int]:
    """The addresses by definition: of all multiples of 64 the lowest (highest) where nothing lies that lives then."""
    placed: dict[str, int] = {}
    taken: list[tuple[Span, int]] = []
    for span in sorted(found, key=lambda s: (s.last == s.first, s.first, -s.size_bytes, s.name)):
        # Who lives longer is placed first, and looks at the step in which it begins.
        met = [(spot, spot + -(-o.size_bytes // 64) * 64) for o, spot in taken if o.first <= span.first <= o.last]
        spots = range(base, capacity - -(-span.size_bytes // 64) * 64 + 1, 64)
        free = [at for at in spots if all(at >= top or at + span.size_bytes <= bottom for bottom, top in met)]
        if free:
            downward = alternate and span.first == span.last and span.first % 2 == 1
            placed[span.name] = max(free) if downward else min(free)
            taken.append((span, placed[span.name]))
    return placed


@given(spans(), st.booleans(), st.sampled_from([0, 128]))
def test_spans_lie_where_first_fit_puts_them(found: list[Span], alternate: bool, base: int) -> None:
    layout, failed = place(found, CAPACITY, alternate=alternate, base_bytes=base)
    assert layout.address_bytes == first_fit(found, CAPACITY, alternate, base)
    order = sorted(found, key=lambda s: (s.last == s.first, s.first, -s.size_bytes, s.name))
    assert list(layout.address_bytes) == [span.name for span in order if span.name in layout.address_bytes]
    assert failed == next((span.name for span in order if span.name not in layout.address_bytes), None)


@given(spans(), st.booleans())
def test_the_peak_is_what_the_widest_hole_leaves(found: list[Span], alternate: bool) -> None:
    """Byte by byte (in units of 64), over all steps; without taking turns, the highest address."""
    layout, _ = place(found, CAPACITY, alternate=alternate)
    peaks = []
    for step in range(10):
        row = ["."] * (CAPACITY // 64)
        for span in found:
            if span.name in layout.address_bytes and span.first <= step <= span.last:
                first = layout.address_bytes[span.name] // 64
                for at in range(first, first + -(-span.size_bytes // 64)):
                    row[at] = "x"
        text = "".join(row)
        peaks.append(64 * (len(text) - max(map(len, text.split("x"))) if alternate else len(text.rstrip("."))))
    assert layout.peak_bytes == max(peaks)


def test_thousands_of_spans_that_live_together_are_one_pile() -> None:
    """5,000 results that a last step reads lie side by side in the order in which they are made; a buffer of every
    other step goes to the far end."""
    count = 5000
    kept = [Span(f"k{at}", 64, at, count) for at in range(count)]
    buffers = [Span(f"b{at}", 128, at, at) for at in range(count)]
    layout, failed = place(kept + buffers, 1 << 20, alternate=True)
    assert failed is None
    assert [layout.address_bytes[f"k{at}"] for at in (0, 1, 4999)] == [0, 64, 4999 * 64]
    far = (1 << 20) - 128
    assert [layout.address_bytes[f"b{at}"] for at in (0, 1, 4998, 4999)] == [64, far, 4999 * 64, far]
    assert layout.live_bytes == 5000 * 64 + 128
