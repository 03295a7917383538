"""Designs as the columns that the compiled closed form reads: timing of every kind of cores, energy of every
action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sim.cost import estimate, kernel
from sim.cost.designs import Designs
from sim.cost.energy import IDLE, ActionEnergies, action_energies, idle_power_w
from sim.cost.work import compute_bandwidth, tile_overhead_cycles
from sim.errors import Diagnostic, InputError
from sim.hw.area import chip_area
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.hw.dram import Dram
from sim.hw.dram_efficiency import cost_table
from sim.hw.money import cost_parts, load_prices
from sim.hw.noc import Interconnect, build_network
from sim.hw.systolic import DATAFLOWS
from sim.hw.technology import load_technology
from sim.units import PS_PER_S

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

PS = 1 / PS_PER_S


@dataclass(frozen=True, slots=True)
class Site:
    """How a group of cores sits on the interconnect.

    `hops` from a core's nearest memory port on average, of which bytes are charged for `crossed`, `ports` different
    ones in use, `remote` share of cores that do not sit on theirs, `tree_links` crossed by a multicast to all of them.
    """

    hops: float
    crossed: float
    ports: int
    remote: float
    tree_links: int


@lru_cache(maxsize=1024)
def site(net: Interconnect, first_core: int, cores: int) -> Site:
    """The cores first_core, first_core + 1, ... of an interconnect; core i sits on node i."""
    network = build_network(net)
    nodes = range(first_core, first_core + cores)
    routes = [network.memory_read_route(node) for node in nodes]
    hops, crossed = [route.hops for route in routes], [route.crossed for route in routes]
    ports = {network.nearest_port(node) for node in nodes}
    start = net.memory_ports[network.nearest_port(first_core)]
    tree = len(network.multicast_tree(start, nodes)) if cores > 1 else crossed[0]
    return Site(
        sum(hops) / cores,
        sum(crossed) / cores,
        len(ports),
        sum(hop > 0 for hop in crossed) / cores,
        1 if net.topology == "crossbar" and cores > 1 else tree,
    )


def timing_columns(designs: Designs, dataflow: str | None = None) -> Float64:
    """[designs, kinds of cores, kernel.HARDWARE_COLUMNS]; a chip with fewer kinds has none of the rest.

    `dataflow` overrides the arrays' own. A scratchpad's bandwidth for compute is what the DMA leaves of it, at least a
    quarter (sim.cost.work.compute_bandwidth). Raises NoLaw for cores that the kernel has no law for.
    """
    _check_laws(designs)
    kinds = max(len(chip.cores) for chip in designs.chips)
    found = np.zeros((len(designs), kinds, kernel.HARDWARE_COLUMNS), np.float64)
    for kind in range(kinds):
        _fill_kind(designs, kind, dataflow, found[:, kind])
    kernel.derive(found)
    return found


def site_columns(site: estimate.Site, dataflow: str) -> Float64:
    """[kernel.HARDWARE_COLUMNS] of the cores of one site of the mapper, as far as the latency of a tiling depends on
    them; `dataflow` is that of its arrays. Raises InputError for a core that the kernel has no law for."""
    kind, dram = site.kind, site.dram
    lacking = lacking_law(kind, dataflow)
    if lacking:
        raise InputError(f"the compiled closed form has no law for {lacking} (core '{kind.name}')")
    array, sums, calibration = kind.array, kind.accumulator, kind.calibration
    found = dram_columns(dram)
    if array is not None:
        found[kernel.ADDERS] = array.rows_per_adder
        shape = (True, array.rows, array.cols, array.count, DATAFLOWS.index(dataflow), array.double_buffered_weights)
        found[_ARRAY_COLUMNS] = shape
    columns = {
        kernel.CORES: site.cores,
        kernel.CLOCK_HZ: kind.clock_hz,
        kernel.LANES: kind.vector.lanes,
        kernel.SRAM_BYTES: kind.sram.size_bytes,
        kernel.FEED_BW: compute_bandwidth(kind),
        kernel.ACCUMULATOR_BYTES: sums.size_bytes if sums is not None else 0,
        kernel.ACCUMULATOR_BW: sums.bandwidth_bytes_per_s if sums is not None else 0,
        kernel.CHANNELS: kind.dma.channels,
        kernel.CHANNEL_BW: kind.dma.bandwidth_bytes_per_s,
        kernel.OUTSTANDING: kind.dma.outstanding,
        kernel.DRAM_BW: dram.bandwidth_bytes_per_s,
        kernel.DRAM_SHARE: calibration.dram_efficiency,
        kernel.ARRAY_SHARE: calibration.array_efficiency,
        kernel.VECTOR_SHARE: calibration.vector_efficiency,
        kernel.TILE_CYCLES: tile_overhead_cycles(kind),
        kernel.HEAD_S: site.head_latency_s,
        kernel.SEND_S: site.send_latency_s,
        kernel.PORTS_BW: site.port_bandwidth_bytes_per_s,
        kernel.EACH_PORT_BW: site.each_port_bandwidth_bytes_per_s,
        kernel.HOP_BW: site.hop_bandwidth_bytes_per_s,
        kernel.RINGS: kind.sram.rings,
    }
    found[list(columns)] = list(columns.values())
    kernel.derive(found)
    return found


def dram_columns(dram: Dram) -> Float64:
    """[kernel.HARDWARE_COLUMNS] as far as the efficiency of a DRAM's patterns depends on them, uncalibrated."""
    found = np.zeros(kernel.HARDWARE_COLUMNS)
    columns = {
        kernel.BURST_BYTES: dram.burst_bytes,
        kernel.INTERLEAVE_BYTES: dram.interleave_bytes,
        kernel.DRAM_CHANNELS: dram.channels,
        kernel.GATHERS: dram.gathers,
        kernel.DRAM_SHARE: 1.0,
    }
    found[list(columns)] = list(columns.values())
    found[kernel.DRAM_COST :] = cost_table(dram.channel_setup).reshape(-1)
    return found


def lacking_law(kind: CoreKind, dataflow: str | None = None) -> str:
    """What the kernel has no law for in a kind of cores (with a dataflow other than its arrays' own); "" for
    nothing."""
    lacking = "result tiles dealt in waves" if kind.dispatch is not None else ""
    if kind.array is not None and (dataflow or kind.array.dataflow) not in DATAFLOWS:
        lacking = f"{dataflow or kind.array.dataflow} arrays"
    if not kind.sram.padded_rows:
        lacking = "bank conflicts (padded_rows: false)"
    return lacking or _compiler_choice(kind)


def _compiler_choice(kind: CoreKind) -> str:
    """A parameter of the compiler or of its layouts that the kernel does not know; "" without one."""
    array = kind.array
    choices = {
        "sram.tile_slots 1": kind.sram.tile_slots != 2,
        "divide to_fit": kind.divide != "always",
        "vector.register": bool(kind.vector.register_shape),
        "array.converted": array is not None and bool(array.converted),
    }
    return next((name for name, used in choices.items() if used), "")


class NoLaw(InputError):
    """What the bound of many designs has no law for: some of the `designs`, by number, or the model on any (None)."""

    def __init__(self, message: str, designs: tuple[int, ...] | None = None) -> None:
        self.message, self.designs = message, designs
        super().__init__(Diagnostic(message, hint="simulate such designs one by one, with fidelity bound or event"))

    def __reduce__(self) -> tuple[object, ...]:
        return NoLaw, (self.message, self.designs)


def _check_laws(designs: Designs) -> None:
    told, lacking = "", np.zeros(len(designs.chips), np.bool_)
    for at, chip in enumerate(designs.chips):
        for kind in chip.cores:
            law = lacking_law(kind) or ("sram.tiles" if kind.sram.tiles_bytes else "")
            if law:
                lacking[at] = True
                where = f"(core '{kind.name}' of chip '{chip.name}')"
                told = told or f"the bound of many designs has no law for {law} {where}"
    if told:
        raise NoLaw(told, tuple(np.flatnonzero(lacking[designs.chip_of]).tolist()))


def _fill_kind(designs: Designs, kind: int, dataflow: str | None, found: Float64) -> None:
    def of(*place: str) -> Float64:
        return designs.column("cores", kind, *place)

    def chips(value: object) -> Float64:
        return designs.per_chip([value(chip) for chip in designs.chips])  # type: ignore[operator]

    channels, channel_bw = of("dma", "channels"), of("dma", "bandwidth_bytes_per_s")
    sram_bw = of("sram", "bandwidth_bytes_per_s")
    hop_s = designs.column("interconnect", "hop_latency_ps") * PS
    link_bw = designs.column("interconnect", "link_bandwidth_bytes_per_s")
    port_bw = port_bandwidth(designs)
    sites = [_site(chip, kind) for chip in designs.chips]
    hops = designs.per_chip([one.hops for one in sites])
    setup_s = of("dma", "setup_latency_ps") * PS
    columns = {
        kernel.CORES: of("count"),
        kernel.CLOCK_HZ: of("clock_hz"),
        kernel.HAS_ARRAY: of("array", "rows") > 0,
        kernel.ROWS: of("array", "rows"),
        kernel.COLS: of("array", "cols"),
        kernel.ADDERS: of("array", "rows_per_adder"),
        kernel.ARRAYS: of("array", "count"),
        kernel.DATAFLOW: of("array", "dataflow") if dataflow is None else DATAFLOWS.index(dataflow),
        kernel.OVERLAP: of("array", "double_buffered_weights"),
        kernel.LANES: of("vector", "lanes"),
        kernel.SRAM_BYTES: of("sram", "size_bytes"),
        kernel.FEED_BW: np.maximum(sram_bw - channels * channel_bw, sram_bw / 4),
        kernel.ACCUMULATOR_BYTES: of("accumulator", "size_bytes"),
        kernel.ACCUMULATOR_BW: of("accumulator", "bandwidth_bytes_per_s"),
        kernel.CHANNELS: channels,
        kernel.CHANNEL_BW: channel_bw,
        kernel.OUTSTANDING: of("dma", "outstanding"),
        kernel.DRAM_BW: designs.column("dram", "bandwidth_bytes_per_s"),
        kernel.ROW_BYTES: designs.column("dram", "row_bytes"),
        kernel.BURST_BYTES: designs.column("dram", "burst_bytes"),
        kernel.INTERLEAVE_BYTES: designs.column("dram", "interleave_bytes"),
        kernel.DRAM_CHANNELS: designs.column("dram", "channels"),
        kernel.GATHERS: chips(lambda chip: chip.dram.gathers),
        kernel.DRAM_SHARE: designs.column("calibration", "dram_efficiency"),
        kernel.ARRAY_SHARE: designs.column("calibration", "array_efficiency"),
        kernel.VECTOR_SHARE: designs.column("calibration", "vector_efficiency"),
        kernel.TILE_CYCLES: np.ceil(
            designs.column("calibration", "tile_overhead_ps") * of("clock_hz") / PS_PER_S
        ),
        kernel.HEAD_S: setup_s + designs.column("dram", "latency_ps") * PS + hops * hop_s,
        kernel.SEND_S: setup_s + hop_s,
        kernel.PORTS_BW: port_bw * designs.per_chip([one.ports for one in sites]),
        kernel.EACH_PORT_BW: port_bw,
        kernel.HOP_BW: link_bw,
        kernel.HOPS: designs.per_chip([one.crossed for one in sites]),
        kernel.TREE_LINKS: designs.per_chip([one.tree_links for one in sites]),
        kernel.REMOTE_SHARE: designs.per_chip([one.remote for one in sites]),
        kernel.RINGS: chips(lambda chip: kind < len(chip.cores) and chip.cores[kind].sram.rings),
    }
    for column, values in columns.items():
        found[:, column] = values
    tables = np.stack([cost_table(chip.dram.channel_setup).reshape(-1) for chip in designs.chips])
    found[:, kernel.DRAM_COST :] = tables[designs.chip_of]


def port_bandwidth(designs: Designs) -> Float64:
    """Bytes per second of one memory port of every design [designs]; of a link where the chip says nothing else."""
    own = designs.per_chip([chip.interconnect.memory_port_bandwidth_bytes_per_s or 0 for chip in designs.chips])
    return np.where(own > 0, own, designs.column("interconnect", "link_bandwidth_bytes_per_s"))


def _site(chip: Chip, kind: int) -> Site:
    if kind >= len(chip.cores):
        return Site(0.0, 0.0, 0, 0.0, 0)
    first = sum(other.count for other in chip.cores[:kind])
    return site(chip.interconnect, first, chip.cores[kind].count)


def rate_columns(designs: Designs, formats: Sequence[str]) -> Float64:
    """[designs, kinds, formats, 2]: numerator and denominator of the arrays' rate; numerator 0 where there is none."""
    kinds = max(len(chip.cores) for chip in designs.chips)
    found = np.zeros((len(designs.chips), kinds, max(1, len(formats)), 2), np.float64)
    found[..., 1] = 1.0
    for row, chip in enumerate(designs.chips):
        for kind, core in enumerate(chip.cores):
            for column, dtype in enumerate(formats):
                if core.array is not None and dtype in core.array.rates:
                    rate = core.array.rate(dtype)
                    found[row, kind, column] = rate.numerator, rate.denominator
    return found[designs.chip_of]


@dataclass(frozen=True, eq=False)
class Costs:
    """What every design takes: area and price [designs] (no number for a die larger than a wafer), idle watts by
    component [designs], joules and watts of every action (names of energy.ActionEnergies; 0 where there is no host)
    [designs, kinds of cores]."""

    area_mm2: Float64
    cost_usd: Float64
    idle_w: Mapping[str, Float64]
    actions: Mapping[str, Float64]


def cost_columns(designs: Designs) -> Costs:
    """The coefficients of every design, by the functions that the events use, each structure once with arrays of the
    parameters that vary.

    Raises InputError on an unknown technology.
    """
    count, kinds = len(designs), max(len(chip.cores) for chip in designs.chips)
    names = [field.name for field in fields(ActionEnergies)]
    area, cost = np.empty((2, count))
    idle = {name: np.empty(count) for name in IDLE}
    actions = {name: np.zeros((count, kinds)) for name in names}
    for structure in range(len(designs.chips)):
        mine = np.flatnonzero(designs.chip_of == structure)
        chip = designs.rows(mine).chip_of_arrays(structure)
        technology = load_technology(chip.technology)
        area[mine] = sum(chip_area(chip, technology).values())
        cost[mine] = sum(cost_parts(chip, technology, load_prices(chip.prices)).values())
        for name, watts in idle_power_w(chip, technology).items():
            idle[name][mine] = watts
        for kind, core in enumerate(chip.cores):
            found = action_energies(chip, core, technology)
            for name in names:
                joules = getattr(found, name)
                actions[name][mine, kind] = 0.0 if joules is None else joules
    return Costs(area, cost, idle, actions)


_ARRAY_COLUMNS = [kernel.HAS_ARRAY, kernel.ROWS, kernel.COLS, kernel.ARRAYS, kernel.DATAFLOW, kernel.OVERLAP]
