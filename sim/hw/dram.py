"""DRAM: the off-chip memory, as channels of a device with a bandwidth, a latency and access energies.

Devices are files of hw_configs/dram/; a chip names one and says how much of it there is. Any number of the
device can be overridden in the chip's `dram:` block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.config import Document, Field, Part, Unit, changed_ns, data_dir, data_file, list_resources, load_yaml
from sim.errors import FieldError, InputError
from sim.hw.dram_efficiency import ENDLESS, ChannelSetup, cost_table, interpolate
from sim.hw.dram_timing import DramTiming, Mapper, Scheduler
from sim.units import FASTEST_LINK, PS_PER_S, SLOWEST_LINK

DEVICE_FOLDER = "hw_configs/dram"


@dataclass(frozen=True, slots=True)
class Dram(Part):
    """The DRAM of a chip. `bandwidth_bytes_per_s` is the peak of all channels together."""

    device: Annotated[str, Field(min_length=1, description="a name that `lepton list drams` shows, or a file")]
    channels: Annotated[int, Field(ge=1, le=4096, description="independent channels (or write stacks: N)")]
    channel_bandwidth_bytes_per_s: Annotated[
        int,
        Unit("bandwidth"),
        Field(alias="channel_bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK,
              description="peak of one channel")
    ]
    capacity_bytes: Annotated[
        int, Unit("size"), Field(alias="capacity", gt=0, description="all channels together")
    ]
    controller_latency_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="controller_latency", ge=0, description="controller and PHY, of a read"),
    ]
    row_bytes: Annotated[int, Unit("size"), Field(alias="row", gt=0, description="row (page) of one bank")]
    burst_bytes: Annotated[int, Unit("size"), Field(alias="burst", gt=0, description="smallest transfer")]
    activation_energy_j: Annotated[
        float, Unit("energy"), Field(alias="activation_energy", gt=0, description="open and close one row")
    ]
    read_energy_j_per_byte: Annotated[
        float,
        Unit("energy_per_byte"),
        Field(alias="read_energy", gt=0, description="on the device, of an open row"),
    ]
    write_energy_j_per_byte: Annotated[
        float, Unit("energy_per_byte"), Field(alias="write_energy", gt=0, description="as read_energy")
    ]
    io_energy_j_per_byte: Annotated[
        float,
        Unit("energy_per_byte"),
        Field(alias="io_energy", gt=0, description="interface, both ends with PHY and controller"),
    ]
    refresh_period_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="refresh_period", gt=0, description="time in which every row is refreshed once"),
    ]
    standby_power_w: Annotated[
        float, Unit("power"), Field(alias="standby_power", gt=0, description="of one idle channel")
    ]
    phy_area_mm2: Annotated[
        float, Unit("area"), Field(alias="phy_area", gt=0, description="PHY on our die, per channel")
    ]
    controller_transistors: Annotated[int, Field(gt=0, description="memory controller, per channel")]
    price_usd_per_gib: Annotated[
        float, Unit("money_per_size"), Field(alias="price", gt=0, description="by capacity")
    ]
    timing: Annotated[DramTiming, Field(description="organisation and timing of a channel")]
    channels_per_stack: Annotated[
        int, Field(ge=0, description="of a stack on the package; 0: modules on a board")
    ] = 0
    mapper: Annotated[Mapper, Field(description="address bits to banks")] = "bank_interleaved_xor"
    scheduler: Annotated[Scheduler, Field(description="which request goes next")] = "first_ready_row_hits"
    receiver_share: Annotated[
        float,
        Field(ge=0, le=1, description="of io_energy at the end that receives; the chip receives what it reads"),
    ] = 0.5
    interleave_bytes: Annotated[
        int,
        Unit("size"),
        Field(alias="interleave", gt=0, description="what lies in one channel before the next (hashed)"),
    ] = 256
    gathers: Annotated[
        bool,
        Field(description="many cores' requests are put in order before the channels (GPU): all patterns run on"),
    ] = False
    streams: Annotated[
        int, Field(ge=1, le=64, description="transfers that take turns on a channel, for its efficiency")
    ] = 4
    latency_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="latency", ge=0, description="unloaded read; 0: of the timing and the controller"),
    ] = 0
    bandwidth_bytes_per_s: Annotated[
        int,
        Unit("bandwidth"),
        Field(alias="bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK,
              description="published total, over channels x channel_bandwidth"),
    ] = 0
    status: Annotated[
        Literal["published", "simulated", "estimate"], Field(description="what the timing rests on")
    ] = field(default="estimate", compare=False)

    accuracy: Annotated[str, Field(description="error of the timing against runs made elsewhere")] = field(
        default="", compare=False
    )
    bandwidth_error: Annotated[
        tuple[float, ...],
        Field(max_length=2, description="[least, most] that bandwidth there was above ours, relative; []: no run"),
    ] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.bandwidth_bytes_per_s:
            object.__setattr__(
                self, "bandwidth_bytes_per_s", self.channels * self.channel_bandwidth_bytes_per_s
            )
        if not self.latency_ps:
            object.__setattr__(self, "latency_ps", self.unloaded_latency_ps)
        complaints = []
        if self.bandwidth_error and not -1 < self.bandwidth_error[0] <= self.bandwidth_error[-1]:
            message = f"found {list(self.bandwidth_error)}; expected [least, most], relative, or []"
            complaints.append((("bandwidth_error",), message))
        if self.row_bytes % self.burst_bytes:
            complaints.append((("row",), f"is not a whole number of bursts of {self.burst_bytes} B"))
        if complaints:
            raise FieldError(complaints)

    @property
    def unloaded_latency_ps(self) -> int:
        """A read alone that finds another row open: precharge, activate, read, data, and the controller.

        DDR4-3200: (22 + 22 + 22 + 4) x 0.625 ns = 43.75 ns, and 20 ns.
        """
        timing = self.timing
        clocks = timing.rp_clocks + timing.rcd_clocks + timing.read_clocks
        return clocks * timing.clock_ps + self.controller_latency_ps

    @property
    def channel_setup(self) -> ChannelSetup:
        """What decides on the efficiency of patterns on one channel."""
        return ChannelSetup(
            self.timing, self.burst_bytes, self.row_bytes, self.mapper, self.scheduler, self.streams
        )


def pattern_efficiency(
    dram: Dram, run_bytes: ArrayLike, pitch_bytes: ArrayLike, *, store: bool = False
) -> NDArray[np.float64]:
    """Share of the peak bandwidth that transfers made of runs of contiguous bytes reach, loads or stores.

    Runs start `pitch_bytes` apart (0: anywhere; not more than the run: it goes on without end). The arguments
    broadcast. From the table of the device (see `sim/hw/dram_efficiency.py`), as one channel sees the pattern: channels
    take turns by `interleave`, by a hash, so that all are busy alike; a run of r bytes is shared by r / interleave
    channels (1 at least, all at most), each of which sees so much shorter runs at so much shorter pitches. What a run
    touches of its first and last burst beyond itself is moved too: g the greatest common divisor of run, pitch and
    burst, a run moves run + burst - g bytes on average.
    """
    run = np.maximum(np.asarray(run_bytes, np.int64), 1)
    run, pitch = np.broadcast_arrays(run, np.asarray(pitch_bytes, np.int64))
    if dram.gathers:
        pitch = run
    shared = np.clip(run / dram.interleave_bytes, 1, dram.channels)
    endless = (pitch > 0) & (pitch <= run)
    step = np.gcd(np.gcd(run, pitch), dram.burst_bytes)
    moved = np.where(endless, run, run + dram.burst_bytes - step)
    local_pitch = np.where(pitch > 0, np.maximum((pitch & -pitch) / shared / dram.burst_bytes, 1.0), 0.0)
    local_run = np.where(endless, ENDLESS, moved / shared / dram.burst_bytes)
    table = cost_table(dram.channel_setup)[int(store)]
    return np.asarray(run / moved / interpolate(table, local_run, local_pitch))


def row_activations(
    dram: Dram, run_bytes: ArrayLike, moved_bytes: ArrayLike, span_bytes: ArrayLike = np.inf
) -> NDArray[np.float64]:
    """Rows opened to move `moved_bytes` in contiguous runs of `run_bytes`, in rising order within `span_bytes`. The
    arguments broadcast.

    A stretch of s bytes that starts at any burst touches 1 + (s - burst) / row rows on average. Every run opens its
    own, but no row of the span is opened twice: it stays open from one run to the next that lies in it.

    1 MiB in runs of 32 B on HBM2 (row 1 KiB): 32768 rows; in one run: 1024.97; 8 runs of 32 B within 512 B: 1.47.
    """
    run = np.maximum(np.asarray(run_bytes, dtype=np.float64), 1.0)
    runs = np.maximum(np.asarray(moved_bytes, dtype=np.float64) / run, 1.0)
    return np.minimum(runs * _rows_touched(dram, run), _rows_touched(dram, span_bytes))


def _rows_touched(dram: Dram, stretch_bytes: ArrayLike) -> NDArray[np.float64]:
    """Rows that a stretch of memory touches on average, wherever it starts."""
    stretch = np.asarray(stretch_bytes, dtype=np.float64)
    return np.asarray(1.0 + np.maximum(stretch - dram.burst_bytes, 0.0) / dram.row_bytes)


def chip_share_of_interface(receiver_share: ArrayLike, read_bytes: ArrayLike, write_bytes: ArrayLike) -> Any:
    """Part of the interface's energy that heats the chip, and not the DRAM, where so much is read and written; the
    arguments broadcast. 1/2 where nothing moves.

    Reads alone with a terminated bus, 0.82: 0.82; half of the bytes written: 0.5.
    """
    read, written = np.asarray(read_bytes, np.float64), np.asarray(write_bytes, np.float64)
    moved = read + written
    share = np.asarray(receiver_share) * read + (1.0 - np.asarray(receiver_share)) * written
    return np.where(moved > 0, share / np.where(moved > 0, moved, 1.0), 0.5)[()]


def refresh_power_w(dram: Dram) -> float:
    """Every row of the capacity opened once a refresh period.

    8 GiB of HBM2: 8,388,608 rows x 909 pJ / 32 ms = 0.238 W.
    """
    rows = dram.capacity_bytes / dram.row_bytes
    return rows * dram.activation_energy_j * PS_PER_S / dram.refresh_period_ps


def resolve_dram(document: Document) -> dict[str, Any]:
    """The chip's `dram:` block over its device file, with `stacks` turned into channels.

    Raises InputError on an unknown device or a wrong count. Anything else is left for validation.
    """
    block = dict(document.data["dram"])
    device = block.get("device")
    if not isinstance(device, str):
        message = f"found {device!r}; expected a name" if "device" in block else "required key 'device' is missing"
        hint = f"one of {', '.join(list_resources(DEVICE_FOLDER))}, or the path of a file of your own"
        raise InputError(document.complaint(("dram", "device"), message, hint))
    try:
        path = data_file(DEVICE_FOLDER, device, what="DRAM device")
    except InputError as error:
        problem = error.diagnostics[0]
        raise InputError(document.complaint(("dram", "device"), problem.message, problem.hint)) from error
    _check_total(document)
    base = dict(_device_data(path, changed_ns(device)))
    per_stack = base.get("channels_per_stack")
    if "stacks" in block:
        block["channels"] = _channels(document, block, per_stack)
        del block["stacks"]
    if isinstance(block.get("timing"), dict):
        block["timing"] = base["timing"] | block["timing"]
    return base | block


def _check_total(document: Document) -> None:
    """Raise InputError where a child has another DRAM than its parent, which states the total bandwidth of its own."""
    own = document.position(()).file
    block, total = document.data["dram"], document.position(("dram", "bandwidth")).file
    if "bandwidth" not in block or total == own or not isinstance(total, Path):  # an option
        return
    said = [key for key in ("device", "channels", "stacks") if key in block]
    changed = [key for key in said if document.position(("dram", key)).file == own]
    if changed:
        message = "the parent states a total bandwidth, which this would not change"
        hint = "state bandwidth as well, or write `bandwidth:` without a value, for that of the channels"
        raise InputError(document.complaint(("dram", changed[-1]), message, hint))


@lru_cache(maxsize=32)
def _device_data(path: Path, changed_ns: int) -> dict[str, Any]:
    """What a device file says; read once, as sweeps build thousands of chips."""
    return load_yaml(path, search=data_dir(DEVICE_FOLDER)).data


def _channels(document: Document, block: dict[str, Any], per_stack: int | None) -> int:
    stacks, problem = block["stacks"], ""
    if per_stack is None:
        problem = f"'{block['device']}' does not come in stacks; write channels: N"
    elif "channels" in block:
        problem = "write stacks or channels, not both"
    elif isinstance(stacks, bool) or not isinstance(stacks, int) or not 1 <= stacks <= 256:
        problem = f"found {stacks!r}; expected a whole number of stacks, 1 to 256"
    if problem:
        raise InputError(document.complaint(("dram", "stacks"), problem))
    return int(stacks) * int(per_stack or 0)
