"""What `show` and `list` print, as rows with one set of keys. Dimensional keys end in their unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sim.units import format_quantity

if TYPE_CHECKING:
    from sim.graph.graph import Graph
    from sim.hw.chip import Chip
    from sim.hw.dram import Dram
    from sim.program import Program

Row = Mapping[str, Any]


def chip_rows() -> list[Row]:
    """One row per chip of hw_configs/."""
    from sim.hw.chip import list_chips, load_chip

    rows: list[Row] = []
    for chip in (load_chip(name) for name in list_chips()):
        arrays = [(kind.count * kind.array.count, kind.array) for kind in chip.cores if kind.array]
        rows.append(
            {
                "chip": chip.name,
                "technology": chip.technology,
                "clock_mhz": chip.clock_hz / 1e6,
                "cores": chip.core_count,
                "arrays": ", ".join(f"{count} x {a.rows}x{a.cols}" for count, a in arrays),
                "dtypes": " ".join(sorted({dtype for _, a in arrays for dtype in a.rates})),
                "sram_mib": sum(kind.count * kind.sram.size_bytes for kind in chip.cores) / 2**20,
                "dram": chip.dram.device,
                "dram_gb_per_s": chip.dram.bandwidth_bytes_per_s / 1e9,
            }
        )
    return rows


def model_rows() -> list[Row]:
    """One row per file of workloads/."""
    from sim.graph.load import list_models

    rows: list[Row] = []
    for model in list_models():
        size = {"macs": model.macs, "parameters": model.parameters}
        rows.append({"model": model.name, "domain": model.domain, "family": model.family, **size})
    return rows


def parameter_rows() -> list[Row]:
    """One row per parameter of a chip file."""
    from sim.hw.chip import parameter_table

    return list(parameter_table())


def technology_rows() -> list[Row]:
    """One row per technology node: what makes chips on it large, hungry and dear."""
    from sim.config import list_resources
    from sim.hw.technology import load_technology

    nodes = sorted(map(load_technology, list_resources("hw_configs/technology")), key=lambda node: -node.node_nm)
    return [
        {
            "technology": node.name,
            "int8_mac_pj": node.mac_energy_j("int8") * 1e12,
            "bf16_mac_pj": node.mac_energy_j("bf16") * 1e12,
            "sram_mm2_per_mib": node.sram_area_mm2(1 << 20),
            "mtransistors_per_mm2": node.logic_transistors_per_mm2.value / 1e6,
            "leakage_mw_per_mm2": node.logic_leakage.value * 1e3,
            "leakage_mw_per_mib": node.sram_leakage.value * 1e3,
            "wafer_usd": round(node.wafer_price.value),
        }
        for node in nodes
    ]


def device_rows() -> list[Row]:
    """One row per DRAM device: what one channel of it gives."""
    from sim.config import list_resources

    rows: list[Row] = []
    for name in list_resources("hw_configs/dram"):
        dram = _one_channel(name)
        rows.append(
            {
                "device": name,
                "channel_gb_per_s": dram.channel_bandwidth_bytes_per_s / 1e9,
                "channels_per_stack": dram.channels_per_stack or None,
                "burst_bytes": dram.burst_bytes,
                "row_bytes": dram.row_bytes,
                "read_latency_ns": dram.unloaded_latency_ps / 1e3,
                "read_pj_per_bit": (dram.read_energy_j_per_byte + dram.io_energy_j_per_byte) / 8 * 1e12,
                "status": dram.status,
            }
        )
    return rows


def graph_title(graph: Graph) -> str:
    """The sums under which the operators stand."""
    work = f"{graph.macs:,} MACs and {graph.flops:,} FLOPs per pass"
    size = f"{graph.parameter_count:,} parameters in {graph.weight_bytes:,} B"
    return f"{graph.name}: {len(graph.ops):,} operators, {work}, {size}"


def graph_rows(graph: Graph) -> list[Row]:
    """One row per operator, in order."""
    from sim.graph.graph import op_macs

    rows: list[Row] = []
    for op in graph.ops:
        out = graph.tensors[op.output]
        weights = {name for name in op.operands if graph.tensors[name].role == "weight"}
        rows.append(
            {
                "operator": op.name,
                "kind": op.attributes.get("function", op.kind) if op.kind == "elementwise" else op.kind,
                "output": "x".join(map(str, out.shape)),
                "dtype": out.dtype,
                "macs": op_macs(op, graph.tensors),
                "weight_bytes": sum(graph.tensors[name].size_bytes for name in weights),
                "output_bytes": out.size_bytes,
            }
        )
    return rows


def program_title(program: Program) -> str:
    """The sums under which the operators stand."""
    return (
        f"{program.name}: {program.tasks:,} tasks in {len(program.segments)} segments, "
        f"{len(program.queues)} queues, {len(program.links)} links"
    )


def program_rows(program: Program) -> list[Row]:
    """One row per operator of every segment: its tasks by kind and its bytes, of one run of the segment."""
    import numpy as np

    from sim.program import Kind

    rows: list[Row] = []
    for segment, repeat in zip(program.segments, program.repeats, strict=True):
        n = len(segment.ops)
        by_kind = {kind: np.bincount(segment.op[segment.kind == kind], minlength=n) for kind in Kind}
        moved = np.zeros(n, np.int64)
        np.add.at(moved, segment.op, segment.nbytes)
        for index, op in enumerate(segment.ops):
            counts = {kind.name.lower(): int(by_kind[kind][index]) for kind in Kind if kind != Kind.BARRIER}
            head = {"segment": segment.name, "repeat": repeat, "operator": op.name, "kind": op.kind}
            rows.append({**head, **counts, "moved_bytes": int(moved[index])})
    return rows


def partition_title(program: Program) -> str:
    """What the parts have in common."""
    facts = program.facts["partition"]
    text = f"{program.name}: partition {facts['mode']}, balance {facts['balance']:.1%} (mean / longest part)"
    if "speedup" in facts:
        alone = format_quantity(facts["one_core_s"], "time")
        text += f", {facts['speedup']:.2f} x as fast as one core ({alone} per input, closed form)"
    return text


def partition_rows(program: Program) -> list[Row]:
    """One row per part: its cores, work, memory and cut."""
    return list(program.facts["partition"]["parts"])


def area_rows(chip: Chip) -> list[Row]:
    """One row per component of the die."""
    from sim.hw.area import chip_area
    from sim.hw.technology import load_technology

    area = chip_area(chip, load_technology(chip.technology))
    total = sum(area.values())
    return [{"component": name, "area_mm2": mm2, "share": mm2 / total} for name, mm2 in area.items()]


def cost_rows(chip: Chip) -> list[Row]:
    """One row per component of the cost. Raises DoesNotFit where the die is larger than a wafer."""
    from sim.errors import DoesNotFit
    from sim.hw.area import chip_area
    from sim.hw.money import WAFER_MM, chip_cost, load_prices
    from sim.hw.technology import load_technology

    technology = load_technology(chip.technology)
    cost = chip_cost(chip, technology, load_prices(chip.prices))
    if cost is None:
        needed = round(sum(chip_area(chip, technology).values()))
        levers = ("fewer cores", "less memory", "a denser technology")
        raise DoesNotFit(
            f"the die of '{chip.name}'", needed, WAFER_MM**2 // 2, "the square in a wafer", levers, "mm2"
        )
    total = sum(cost.values())
    return [{"component": name, "cost_usd": usd, "share": usd / total} for name, usd in cost.items()]


def cost_title(chip: Chip) -> str:
    """Cost, yield and dies per wafer."""
    from sim.hw.area import chip_area
    from sim.hw.money import chip_yield, dies_per_wafer, load_prices
    from sim.hw.technology import load_technology

    technology, prices = load_technology(chip.technology), load_prices(chip.prices)
    total = sum(row["cost_usd"] for row in cost_rows(chip))
    dies = dies_per_wafer(sum(chip_area(chip, technology).values()), prices.scribe.value)
    good = chip_yield(chip, technology, prices)
    return f"{chip.name}: {total:,.0f} USD; {dies:.0f} dies on a wafer, of which {good:.0%} are good"


def data_file_rows(folder: str, name: str, what: str) -> list[Row]:
    """One row per number of a data file. Status and source are its own, or those of the block around it.

    `name` may be the path of a file. Raises InputError on an unknown name.
    """
    from sim.config import data_dir, data_file, load_yaml

    return list(_leaves(load_yaml(data_file(folder, name, what=what), search=data_dir(folder)).data, "", {}))


_ENDLESS = 1 << 30
_STREAMS = (1, 4, 16)
"""Transfers that take turns on a channel, of the tables that come with the package."""


def dram_rows(name: str) -> list[Row]:
    """The numbers of a DRAM device, then what follows from them for one channel: latencies, and the efficiency of loads
    and of stores by access pattern and number of streams. Raises InputError on an unknown name."""
    status, found = _one_channel(name).status, dram_latency_rows(name)
    for row in dram_pattern_rows(name):
        label = f"efficiency[{row['pattern']}, {row['streams']} stream{'s' if row['streams'] > 1 else ''}]"
        shown = (f"{row[kind]:.3f} {kind}" for kind in ("load", "half_and_half", "store"))
        value = ", ".join(shown).replace("_", " ")
        found.append({"name": label, "value": value, "status": status, "source": "simulated"})
    return found


def dram_latency_rows(name: str) -> list[Row]:
    """The numbers of a DRAM device, then the latencies that follow from them for one channel."""
    dram = _one_channel(name)
    hit_ps = dram.timing.read_clocks * dram.timing.clock_ps + dram.controller_latency_ps
    derived = {"latency.row_open": hit_ps, "latency.other_row_open": dram.unloaded_latency_ps}
    found = data_file_rows("hw_configs/dram", name, "DRAM device")
    for label, latency_ps in derived.items():
        value = format_quantity(latency_ps, "time_ps")
        found.append({"name": label, "value": value, "status": dram.status, "source": "simulated"})
    return found


def dram_pattern_rows(name: str) -> list[Row]:
    """Share of the peak bandwidth of one channel that loads reach, loads and stores of half of the bytes each, and what
    a store adds to such a mixture, by access pattern and by how many transfers take turns."""
    from sim.hw.dram import pattern_efficiency

    dram = _one_channel(name)
    burst = dram.burst_bytes
    patterns = {"sequential": (_ENDLESS, _ENDLESS)}
    patterns |= {f"tile of {run} B rows, pitch 8 KiB": (run, 8192) for run in (64, 256, 1024)}
    patterns |= {f"tile of {run} B rows, pitch 9 KiB": (run, 9216) for run in (64, 256, 1024)}
    patterns |= {f"stride {stride} B": (burst, stride) for stride in (256, 4096)}
    patterns |= {"random bursts": (burst, 0), "random 1 KiB": (1024, 0)}
    found: list[Row] = []
    for label, (run, pitch) in patterns.items():
        for streams in dict.fromkeys((*_STREAMS, dram.streams)):
            on = replace(dram, streams=streams)
            load, store = (float(pattern_efficiency(on, run, pitch, store=s)) for s in (False, True))
            half = 2 / (1 / load + 1 / store)
            found.append({
                "pattern": label, "streams": streams, "load": load, "half_and_half": half, "store": store,
                "used": streams == dram.streams,
            })  # fmt: skip
    return found


def _one_channel(name: str) -> Dram:
    from sim.config import data_file
    from sim.hw.chip import load_chip

    data_file("hw_configs/dram", name, what="DRAM device")  # complains of the name, not of a change to a chip
    return load_chip("tiny", {"dram.device": name, "dram.channels": 1}).dram


def file_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a file that a user writes: a chip, a workload or a partition."""
    from sim.config import json_schema

    if kind == "chip":
        from sim.hw.chip import Chip

        return json_schema(Chip, "lepton chip")
    if kind == "workload":
        from sim.graph.load import Workload

        return json_schema(Workload, "lepton workload")
    from sim.mapping.partition_file import PartitionFile

    return json_schema(PartitionFile, "lepton partition")


def yaml_text(data: Mapping[str, Any]) -> str:
    """Plain data as a YAML file, keys in their order."""
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    writer = YAML()
    writer.width = 100
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump(_styled(data), stream)
    return stream.getvalue()


def _styled(value: Any) -> Any:
    """Lists of scalars on one line, as people write them."""
    from ruamel.yaml.comments import CommentedSeq

    if isinstance(value, Mapping):
        return {key: _styled(inner) for key, inner in value.items()}
    if not isinstance(value, list | tuple):
        return value
    items = CommentedSeq(_styled(inner) for inner in value)
    if not any(isinstance(inner, Mapping) for inner in value):
        items.fa.set_flow_style()
    return items


_ABOUT = ("status", "source", "notes", "name", "device")


def _leaves(value: Any, path: str, about: Mapping[str, str]) -> Iterator[Row]:
    """The numbers below `value`; {size: 8 KiB, value: 1 pJ/B} in a list is named by its size. A list of numbers is one
    value."""
    if isinstance(value, list) and not any(isinstance(entry, dict) for entry in value):
        yield from _leaves(", ".join(map(str, value)), path, about)
    elif isinstance(value, list):
        for entry in value:
            point = [str(v) for k, v in entry.items() if k not in ("value", *_ABOUT)]
            yield from _leaves(entry, f"{path}[{', '.join(point)}]", about)
    elif not isinstance(value, dict):
        yield {
            "name": path,
            "value": value,
            "status": about.get("status", ""),
            "source": about.get("source", ""),
        }
    else:
        about = {**about, **{key: value[key] for key in ("status", "source") if key in value}}
        if "value" in value:
            yield from _leaves(value["value"], path, about)
            return
        for key, inner in value.items():
            if key not in _ABOUT:
                yield from _leaves(inner, f"{path}.{key}" if path else str(key), about)


def space_rows() -> list[dict[str, Any]]:
    """One row per space of the package."""
    from sim.explore.space_file import list_spaces, load_space

    return [
        {
            "space": space.name,
            "chip": space.chip_data.get("name", ""),
            "workloads": " ".join(workload.name for workload in space.workloads),
            "points": space.size,
            "objectives": ", ".join(map(str, space.objectives)),
            "constraints": ", ".join(one.text for one in space.constraints),
        }
        for space in map(load_space, list_spaces())
    ]


def metric_rows() -> list[dict[str, Any]]:
    """One row per metric: its unit, which way is better unless an objective says otherwise, and whether the closed form
    of many designs has it."""
    from sim.explore.metrics import best_direction, bound_metrics, known_metrics, metric_unit

    quick = bound_metrics()
    return [
        {"metric": name, "unit": metric_unit(name), "better": best_direction(name), "closed_form": name in quick}
        for name in known_metrics()
    ]
