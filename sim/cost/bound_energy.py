"""Energy of a model on many designs, by operator, and the power of its course (sim/cost/bound.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.cost import kernel, nest_work, tile_traffic
from sim.cost.energy import TASK_INSTRUCTIONS
from sim.hw.noc import Interconnect, Route, build_network
from sim.jit import jit

if TYPE_CHECKING:
    from sim.cost.bound import Bounds

Float64 = npt.NDArray[np.float64]


def nest_joules(bounds: Bounds) -> dict[str, Float64]:
    """Joules by component of one run of every nest [designs, nests], without what flows all the time; see
    sim.cost.energy.operator_energy."""
    actions, fixed = bounds.costs.actions, bounds.work
    kind = np.maximum(0, bounds.choice[:, :, 0])
    rows = np.arange(len(bounds.designs))[:, None]
    on_vector = bounds.choice[:, :, 1] == 1

    def moved(*columns: int) -> Float64:
        return np.asarray(bounds.traffic[:, :, list(columns)].sum(axis=2))

    def joules(amount: Float64, name: str) -> Float64:
        return np.asarray(amount * actions[name][rows, kind])

    arithmetic = np.where(on_vector, fixed[..., nest_work.ON_VECTOR_J], fixed[..., nest_work.DRAIN_J])
    arithmetic = (
        arithmetic
        + moved(tile_traffic.ADDS) * fixed[..., nest_work.ADD_J]
        + moved(tile_traffic.COPIES) * fixed[..., nest_work.COPY_J]
        + moved(tile_traffic.UNPACKED) * fixed[..., nest_work.UNPACK_J]
        + moved(tile_traffic.MERGED) * fixed[..., nest_work.MERGE_J]
        + moved(tile_traffic.ROW_BLOCKS) * fixed[..., nest_work.ROW_J]
    )
    lanes = np.where(on_vector, fixed[..., nest_work.ON_VECTOR_PASSES], fixed[..., nest_work.DRAIN_PASSES])
    lanes = lanes + moved(tile_traffic.ADDS, tile_traffic.COPIES)
    lanes = lanes + moved(tile_traffic.UNPACKED) * fixed[..., nest_work.UNPACK_PASSES]
    lanes = lanes + moved(tile_traffic.MERGED) * fixed[..., nest_work.MERGE_PASSES]
    lanes = lanes + moved(tile_traffic.ROW_BLOCKS) * fixed[..., nest_work.ROW_PASSES]
    lanes = lanes / bounds.hardware[rows, kind, kernel.LANES]
    instructions = lanes + TASK_INSTRUCTIONS * moved(tile_traffic.TASKS)
    dram = moved(tile_traffic.DRAM_READ, tile_traffic.DRAM_WRITE)
    registers = np.where(on_vector, 0.0, fixed[..., nest_work.REGISTER_BYTES])
    array_s, vector_s = bounds.cost[:, :, kernel.ARRAY_S], bounds.cost[:, :, kernel.VECTOR_S]
    noc_j, activation_j = (actions[name][:, :1] for name in ("noc_j_per_byte_hop", "dram_activation_j"))
    return {
        "mac": np.where(on_vector, 0.0, fixed[..., nest_work.MAC_J]),
        "registers": joules(registers, "pipeline_j_per_byte"),
        "accumulator": joules(moved(tile_traffic.ACCUMULATOR_READ), "accumulator_read_j_per_byte")
        + joules(moved(tile_traffic.ACCUMULATOR_WRITE), "accumulator_write_j_per_byte"),
        "vector": arithmetic,
        "control": joules(instructions, "instruction_j"),
        "sram": joules(moved(tile_traffic.SRAM_READ), "sram_read_j_per_byte")
        + joules(moved(tile_traffic.SRAM_WRITE), "sram_write_j_per_byte"),
        "dma": 2 * joules(moved(tile_traffic.DMA), "register_j_per_byte"),
        "noc": moved(tile_traffic.NOC) * noc_j,
        "dram_activate": moved(tile_traffic.ACTIVATIONS) * activation_j,
        "dram_read": joules(moved(tile_traffic.DRAM_READ), "dram_read_j_per_byte"),
        "dram_write": joules(moved(tile_traffic.DRAM_WRITE), "dram_write_j_per_byte"),
        "dram_io": joules(dram, "dram_io_j_per_byte"),
        "clock": joules(array_s, "array_clock_w") + joules(vector_s, "vector_clock_w"),
    }


def host_joules(bounds: Bounds) -> dict[str, Float64]:
    """Joules by component of the host transfers of one input [designs]."""
    model, designs, moved = bounds.model, bounds.designs, bounds.host_bytes
    first = {name: values[:, 0] for name, values in bounds.costs.actions.items()}
    there = moved > 0
    from_host, to_host = there * model.host_in_bytes, there * model.host_out_bytes
    hops = designs.per_chip([host_route(chip.interconnect).crossed for chip in designs.chips])
    return {
        "control": TASK_INSTRUCTIONS * there * float(model.host_transfers) * first["instruction_j"],
        "cache": np.zeros(len(designs)),
        "noc": moved * hops * first["noc_j_per_byte_hop"],
        "dram_activate": moved / designs.column("dram", "row_bytes") * first["dram_activation_j"],
        "dram_read": to_host * first["dram_read_j_per_byte"],
        "dram_write": from_host * first["dram_write_j_per_byte"],
        "dram_io": moved * first["dram_io_j_per_byte"],
        "host": moved * first["host_j_per_byte"],
        "chip_links": np.zeros(len(designs)),  # models that use them are refused
    }


def host_route(net: Interconnect) -> Route:
    """From the host's node to its nearest memory port."""
    return build_network(net).memory_write_route(net.host_port)


def peak_power_w(bounds: Bounds, inputs: int, slices: int) -> Float64:
    """The highest power of equal slices of the run of so many inputs [designs], operators one after another, each
    spending its energy evenly over its time (sim/report/power.py). Host transfers are before and behind them: of
    further inputs they take no time, so their energy flows with the operators.
    """
    model, designs = bounds.model, len(bounds.designs)
    steps = np.array([number for run, _ in model.course for number in run], np.int64)
    stops = np.cumsum([0, *(len(run) for run, _ in model.course)])
    counts = np.array([count for _, count in model.course], np.int64)
    seconds = bounds.cost[:, :, kernel.LATENCY_S] + bounds.nest_launch_s
    joules = sum(bounds.nest_j.values(), np.zeros(seconds.shape))
    host_j = sum(bounds.host_j.values(), np.zeros(designs))
    share = model.host_in_bytes / max(1, model.host_in_bytes + model.host_out_bytes)
    host = np.stack([bounds.host_s * share, host_j * share, bounds.host_s * (1 - share), host_j * (1 - share)], axis=1)
    idle_w = sum(bounds.costs.idle_w.values(), np.zeros(designs))
    found = np.empty(designs)
    _peaks(seconds, joules, steps, stops, counts, host, inputs, bounds.latency_s, slices, found)
    return np.asarray(found + idle_w)


@jit
def _peaks(
    seconds: Any, joules: Any, steps: Any, stops: Any, counts: Any, host: Any, inputs: int, latency_s: Any, slices: int,
    found: Any,
) -> None:  # fmt: skip
    """Highest watts of a slice of every design, without those that flow all the time."""
    spent = np.empty(slices)
    for design in range(len(seconds)):
        found[design] = np.nan
        if not latency_s[design] > 0.0:
            continue
        between_s = latency_s[design] - host[design, 0] - host[design, 2]
        width_s = (latency_s[design] + (inputs - 1) * between_s) / slices
        spent[:] = 0.0
        at = 0.0
        hidden_w = (inputs - 1) * (host[design, 1] + host[design, 3]) / (inputs * between_s)
        if host[design, 0] > 0.0:
            at = _spend(spent, width_s, at, host[design, 0], host[design, 1])
        for _ in range(inputs):
            for run in range(len(counts)):
                for _ in range(counts[run]):
                    for place in range(stops[run], stops[run + 1]):
                        takes_s = seconds[design, steps[place]]
                        one_j = joules[design, steps[place]] + hidden_w * takes_s
                        at = _spend(spent, width_s, at, takes_s, one_j)
        if host[design, 2] > 0.0:
            at = _spend(spent, width_s, at, host[design, 2], host[design, 3])
        found[design] = spent.max() / width_s


@jit
def _spend(spent: Any, width_s: float, start_s: float, takes_s: float, joules: float) -> float:
    """Spend energy evenly from an instant on; when it is spent."""
    end_s, last = start_s + takes_s, len(spent) - 1
    first, behind = min(last, int(start_s / width_s)), min(last, int(end_s / width_s))
    if first == behind:
        spent[first] += joules
        return end_s
    watts = joules / takes_s
    spent[first] += watts * ((first + 1) * width_s - start_s)
    for place in range(first + 1, behind):
        spent[place] += watts * width_s
    spent[behind] += watts * (end_s - behind * width_s)
    return end_s
