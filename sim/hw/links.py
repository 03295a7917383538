"""Links between chips: how n chips that run the same program in step sum up a tensor over them.

The chips form a ring. In n - 1 steps every chip passes a piece of 1/n of the tensor on to the next, which adds its own
(reduce-scatter); in n - 1 more steps the n sums go round (all-gather). So each chip sends, and receives, 2 (n - 1)/n of
the tensor, the least that any algorithm can (Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters
of workstations, J. Parallel Distrib. Comput. 69, 2009), and the first result waits for 2 (n - 1) links, one after
another. Pieces are cut so fine that they follow one another without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sim.config import Field, Part, Unit
from sim.units import FASTEST_LINK, SLOWEST_LINK


@dataclass(frozen=True, slots=True)
class Links(Part):
    """Links to other chips, over which an all-reduce goes; all of them are used at once."""

    count: Annotated[int, Field(ge=1, le=1024, description="links to other chips")]
    bandwidth_bytes_per_s: Annotated[
        int,
        Unit("bandwidth"),
        Field(alias="bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK,
              description="of one link, one direction")
    ]
    latency_ps: Annotated[
        int, Unit("time_ps"), Field(alias="latency", ge=0, description="from chip to chip: of a step of a ring")
    ] = 1_900_000  # NVLink: hop of a ring, protocol LL128, in the tuning model of NCCL 2.12 (src/graph/tuning.cc)
    energy_j_per_byte: Annotated[
        float, Unit("energy_per_byte"), Field(alias="energy", gt=0, description="both ends of the link")
    ] = 80e-12  # 10 pJ/bit on a board (Arunkumar et al., MCM-GPU, ISCA 2017, table 2); an estimate for other links

    efficiency: Annotated[
        float, Field(gt=0, le=1, description="share of the bandwidth that data has; headers and flags have the rest")
    ] = 1.0

    @property
    def total_bandwidth_bytes_per_s(self) -> int:
        """Bytes of data per second over all links together, one direction."""
        return max(1, int(self.count * self.bandwidth_bytes_per_s * self.efficiency))

    def ring_latency_ps(self, chips: int) -> int:
        """From the first byte sent until the first sum of `chips` chips is everywhere: 4 chips take 6 steps."""
        return 2 * (chips - 1) * self.latency_ps


def exchanged_share(chips: int) -> float:
    """Bytes that each of `chips` chips sends in an all-reduce, and receives, per byte of the tensor: 1.5 of 4 chips."""
    return 2 * (chips - 1) / chips
