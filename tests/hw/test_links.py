"""Links between chips: the closed forms of a ring, and what a chip file may say of them."""

from __future__ import annotations

import pytest

from sim.errors import InputError
from sim.hw.chip import load_chip
from sim.hw.links import Links, exchanged_share


@pytest.mark.parametrize("chips", [2, 3, 4, 8, 64])
def test_a_ring_step_by_step(chips: int) -> None:
    """Every chip holds `chips` pieces of one byte. Who holds the sum of whom is followed piece by piece: when each chip
    has every sum, so many bytes have left it, in so many steps."""
    held = [[{chip} for _ in range(chips)] for chip in range(chips)]
    everyone, sent, steps = set(range(chips)), 0, 0
    while any(piece != everyone for pieces in held for piece in pieces):
        moved = [(chip, (chip - steps) % chips) for chip in range(chips)]
        passed = [(chip, piece, set(held[chip][piece])) for chip, piece in moved]
        for chip, piece, sums in passed:
            held[(chip + 1) % chips][piece] |= sums
        sent, steps = sent + 1, steps + 1
    assert exchanged_share(chips) == pytest.approx(sent / chips)
    assert Links(count=1, bandwidth_bytes_per_s=1, latency_ps=7).ring_latency_ps(chips) == 7 * steps


def test_all_links_are_one_end_of_the_network() -> None:
    chip = load_chip("a100")
    network = chip.network()
    assert network.capacity_bytes_per_s[network.link_id("chip_links")] == 234_900_000_000  # 0.783 of 300 GB/s
    assert "chip_links" not in load_chip("tiny").network().links


def test_what_a_chip_file_may_not_say() -> None:
    with pytest.raises(InputError, match=r"links\.latency: found '3', a bare number; expected a time"):
        load_chip("a100", {"links.latency": "3"})
