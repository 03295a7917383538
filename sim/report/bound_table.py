"""The bound of N designs as columns, by the names of a report's summary."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost import tile_traffic
from sim.cost.bound import Bounds
from sim.cost.bound_energy import peak_power_w
from sim.cost.energy import chip_power_w
from sim.cost.transfers import Float64
from sim.hw.dram import chip_share_of_interface
from sim.hw.money import cost_per_million, load_prices
from sim.report.power import SLICES


def bound_columns(bounds: Bounds, *, partition: str, inputs: int) -> dict[str, Any]:
    """One row per design: its parameters, the keys of `Report.summary` that the bound has, and `error` ("" where
    all is well; else every number that depends on the tiling is not a number).

    Keys mean what they mean in a report (sim/report/report.py): bytes, `energy_j` and `elapsed_s` are of all `inputs`,
    which follow each other on the same cores, `latency_s` of one. `bound_latency_s` is the largest total work /
    capacity.
    """
    model, designs = bounds.model, bounds.designs
    count, items = len(designs), model.graph.items
    floors = bounds.floors
    names = list(floors)
    table = np.column_stack([floors[name] for name in names])
    floor_s = table.max(axis=1)
    latency_s = bounds.latency_s
    interval_s = np.maximum(latency_s - bounds.host_s, floor_s)
    elapsed_s = latency_s + (inputs - 1) * interval_s
    rate = items / (latency_s if inputs == 1 else interval_s)
    joules = bounds.energy_j(inputs, elapsed_s)
    energy_j = sum(joules.values(), np.zeros(count))  # one after another, however many designs there are
    total = bounds.total_traffic * inputs
    power_w = energy_j / elapsed_s
    error = design_errors(bounds)
    traffic = {
        "dram_read_bytes": total[:, tile_traffic.DRAM_READ],
        "dram_write_bytes": total[:, tile_traffic.DRAM_WRITE],
        "sram_read_bytes": total[:, tile_traffic.SRAM_READ],
        "sram_write_bytes": total[:, tile_traffic.SRAM_WRITE],
        "noc_bytes": total[:, tile_traffic.NOC],
        "noc_injected_bytes": total[:, tile_traffic.NOC_INJECTED],
    }
    return {
        **designs.parameters,
        "workload": [model.graph.name] * count,
        "chip": [designs.chips[row].name for row in designs.chip_of.tolist()],
        "fidelity": ["bound"] * count,
        "dtype": [model.main_dtype] * count,
        "partition": [partition] * count,
        "inputs": [inputs] * count,
        "latency_s": latency_s,
        "elapsed_s": elapsed_s,
        "throughput_per_s": rate,
        "throughput_unit": [model.graph.unit] * count,
        "macs": [model.graph.macs] * count,
        "array_utilization": bounds.array_s * rate / items,
        "bound_latency_s": floor_s,
        "bottleneck": ["" if message else names[i] for i, message in zip(_worst(table), error, strict=True)],
        "energy_j": energy_j,
        "energy_per_input_j": energy_j / (inputs * items),
        "tops_per_w": 2e-12 * model.graph.macs * inputs / energy_j,
        "power_w": power_w,
        "peak_power_w": peak_power_w(bounds, inputs, SLICES),
        "chip_power_w": chip_power_w(
            {name: value / elapsed_s for name, value in joules.items()},
            chip_share_of_interface(
                bounds.designs.column("dram", "receiver_share"), traffic["dram_read_bytes"], traffic["dram_write_bytes"]
            ),
        ),
        "area_mm2": bounds.costs.area_mm2,
        "cost_usd": bounds.costs.cost_usd,
        "cost_per_million_usd": _per_million_usd(bounds, power_w, rate),
        **{name: np.rint(values) for name, values in traffic.items()},
        "error": error,
    }


def _per_million_usd(bounds: Bounds, power_w: Float64, rate: Float64) -> Float64:
    """Each design by the prices of its own list."""
    designs, cost_usd, found = bounds.designs, bounds.costs.cost_usd, np.empty(len(rate))
    lists = [chip.prices for chip in designs.chips]
    for name in sorted(set(lists)):
        mine = np.isin(designs.chip_of, [at for at, one in enumerate(lists) if one == name])
        found[mine] = cost_per_million(cost_usd[mine], power_w[mine], rate[mine], load_prices(name))
    return found


def design_errors(bounds: Bounds) -> list[str]:
    """What keeps each design from running the model, in words; "" where nothing does."""
    found = []
    weights = bounds.model.graph.weight_bytes
    capacity = bounds.designs.column("dram", "capacity_bytes")
    lost = bounds.choice[:, :, 0] < 0
    for row in range(len(bounds.designs)):
        message = ""
        if lost[row].any():
            nest = bounds.model.nests[int(lost[row].argmax())]
            message = f"the smallest tile of operator {nest.name} ({nest.kind}) does not fit in a core"
        elif weights > capacity[row]:
            message = f"the weights ({weights:,} B) do not fit in the DRAM ({int(capacity[row]):,} B)"
        found.append(message)
    return found


def _worst(table: Float64) -> list[int]:
    return [int(i) for i in np.where(np.isnan(table), -np.inf, table).argmax(axis=1)]
