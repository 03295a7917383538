"""The bound: a model on N chips at once, in closed form.

What it is. Operators follow one another, each alone on the chip, each under its best tiling (sim/cost/tile_search.py);
every operand comes from the DRAM and every result goes there; the model's inputs and outputs cross the host link. So
there is no contention between operators, no overlap of one with the next, nothing stays in a scratchpad from one
operator to the next, and a shared cache does nothing. Cores that are dealt fixed tiles (`dispatch`) are refused.

`simulate(fidelity="bound")` is another closed form: it sums the estimates of a plan of the mapper for one chip, which
does keep results in scratchpads where it can, and counts the tasks of the lowered program.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sim.cost import kernel, nest_work, tile_traffic
from sim.cost.alike import alike
from sim.cost.bound_energy import host_joules, host_route, nest_joules
from sim.cost.core_cuts import Known, Partitions, granules, joined_cuts
from sim.cost.designs import Designs
from sim.cost.energy import COMPONENTS, IDLE
from sim.cost.hardware import Costs, NoLaw, cost_columns, rate_columns, timing_columns
from sim.cost.nest_tables import NestTables, nest_tables, signature
from sim.cost.tile_search import Inputs, best_tilings
from sim.graph.graph import Graph, Passes
from sim.graph.nest import Nest, channels_last, nests

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Model:
    """A model as distinct loop nests: `repeats` says how often each runs, `course` in which order (numbers of nests,
    and how often such a run of them is repeated), `tables` are the nests as the kernel reads them; `host_in_bytes` and
    `host_out_bytes` cross the host link in `host_transfers` transfers."""

    graph: Graph | Passes
    nests: tuple[Nest, ...]
    repeats: Int64
    host_in_bytes: int
    host_out_bytes: int
    host_transfers: int
    course: tuple[tuple[tuple[int, ...], int], ...] = ()

    @cached_property
    def tables(self) -> NestTables:
        return nest_tables(self.nests)

    @cached_property
    def known_cuts(self) -> Known:
        """Cuts over cores that were asked for; filled in by `joined_cuts`."""
        return {}

    @cached_property
    def formats(self) -> tuple[str, ...]:
        """Operand formats of the contractions."""
        return tuple(sorted({n.operands[0].tensor.dtype for n in self.nests if n.contraction}))

    @cached_property
    def main_dtype(self) -> str:
        """Number format of most multiply-accumulates; of most nests where there are none."""
        weight: dict[str, int] = {}
        for nest, times in zip(self.nests, self.repeats.tolist(), strict=True):
            dtype = nest.operands[0].tensor.dtype
            weight[dtype] = weight.get(dtype, 0) + nest.macs * times + 1
        return max(weight, key=lambda name: weight[name])

    @cached_property
    def format_of(self) -> Int64:
        """Index in `formats` of every nest; -1 for those without products."""
        found = [self.formats.index(n.operands[0].tensor.dtype) if n.contraction else -1 for n in self.nests]
        return np.array(found, np.int64)


def compile_model(graph: Graph | Passes) -> Model:
    """The distinct loop nests of a model after its passes."""
    parts = graph.parts if isinstance(graph, Passes) else ((graph, 1),)
    numbers: dict[tuple[object, ...], int] = {}
    chosen: list[Nest] = []
    repeats: list[int] = []
    course = []
    host_in = host_out = transfers = 0
    for part, count in parts:
        last, run = channels_last(part), []
        for op in part.ops:
            if op.kind == "all_reduce":
                raise NoLaw(f"operator {op.name} is of {op['chips']} chips; the closed form of many designs knows one")
            for nest in nests(op, part.tensors, last, part.in_place):
                number = numbers.setdefault(signature(nest), len(numbers))
                if number == len(chosen):
                    chosen.append(nest)
                    repeats.append(0)
                repeats[number] += count
                run.append(number)
        course.append((tuple(run), count))
        if not part.kernel:
            host_in += count * sum(part.tensors[name].size_bytes for name in part.inputs)
            host_out += count * sum(part.tensors[name].size_bytes for name in part.outputs)
            transfers += count * (len(part.inputs) + len(part.outputs))
    made = np.array(repeats, np.int64)
    return Model(graph, tuple(chosen), made, host_in, host_out, transfers, tuple(course))


@dataclass(frozen=True, eq=False)
class Bounds:
    """A model on N designs; arrays [designs] or [designs, nests]. What does not fit is not a number.

    `cost` [designs, nests, kernel.COSTS] and `traffic` [designs, nests, tile_traffic.TRAFFIC] are of one run of a
    nest, `choice` its tiling (tile_search.best_tilings); `work` [designs, nests, nest_work.WORK] what no tiling
    changes.
    """

    model: Model
    designs: Designs
    hardware: Float64
    rates: Float64
    costs: Costs
    cost: Float64
    traffic: Float64
    choice: Int64
    work: Float64

    @cached_property
    def latency_s(self) -> Float64:
        """Of one input: all nests one after another, their launches, and the host transfers."""
        return np.asarray(
            of_all_nests(self.cost[:, :, kernel.LATENCY_S], self.model.repeats) + self.launch_s + self.host_s
        )

    @cached_property
    def nest_launch_s(self) -> Float64:
        """The launch of every nest [designs, nests], on a chip that is calibrated to need time for it."""
        launch_ps, operand_ps, more_ps = (
            self.designs.column("calibration", f"{name}_overhead_ps")[:, None]
            for name in ("launch", "operand", "contraction")
        )
        tensors = np.array([1 + len(nest.operands) for nest in self.model.nests], np.float64)
        contractions = np.array([nest.contraction for nest in self.model.nests], np.float64)
        return np.asarray((launch_ps + operand_ps * tensors + more_ps * contractions) * 1e-12)

    @cached_property
    def launch_s(self) -> Float64:
        """Launches of all nests of one input."""
        return of_all_nests(self.nest_launch_s, self.model.repeats)

    @cached_property
    def host_s(self) -> Float64:
        """Inputs and results over the host link, one after another, each as fast as the slowest link of its route."""
        host_bw = self.designs.column("host", "bandwidth_bytes_per_s")
        net = [chip.interconnect for chip in self.designs.chips]
        hops = self.designs.per_chip([host_route(one).hops for one in net])
        link_bw = self.designs.column("interconnect", "link_bandwidth_bytes_per_s")
        own_bw = self.designs.per_chip([one.memory_port_bandwidth_bytes_per_s or 0 for one in net])
        slowest = np.minimum.reduce(
            [
                np.where(host_bw > 0, host_bw, np.inf),
                np.where(own_bw > 0, own_bw, link_bw),
                np.where(hops > 0, link_bw, np.inf),
                self.hardware[:, 0, kernel.DRAM_BW],
            ]
        )
        latency_s = 1e-12 * (
            self.designs.column("host", "latency_ps")
            + hops * self.designs.column("interconnect", "hop_latency_ps")
        )
        moved_s = (self.model.host_in_bytes + self.model.host_out_bytes) / slowest
        return np.where(host_bw > 0, moved_s + self.model.host_transfers * latency_s, 0.0)

    @cached_property
    def host_bytes(self) -> Float64:
        """Bytes over the host link, both directions."""
        there = self.designs.column("host", "bandwidth_bytes_per_s") > 0
        return np.where(there, float(self.model.host_in_bytes + self.model.host_out_bytes), 0.0)

    @cached_property
    def total_traffic(self) -> Float64:
        """[designs, tile_traffic.TRAFFIC] of one input, host transfers included: what the host sends is written to the
        DRAM."""
        total = of_all_nests(np.moveaxis(self.traffic, 1, 2), self.model.repeats)
        there = self.host_bytes > 0
        hops = self.designs.per_chip([host_route(chip.interconnect).crossed for chip in self.designs.chips])
        total[:, tile_traffic.DRAM_WRITE] += there * self.model.host_in_bytes
        total[:, tile_traffic.DRAM_READ] += there * self.model.host_out_bytes
        total[:, tile_traffic.NOC] += self.host_bytes * hops
        total[:, tile_traffic.NOC_INJECTED] += self.host_bytes * (hops > 0)
        return np.asarray(total)

    @cached_property
    def nest_j(self) -> dict[str, Float64]:
        """Joules by component of one run of every nest [designs, nests], without what flows all the time."""
        return nest_joules(self)

    @cached_property
    def host_j(self) -> dict[str, Float64]:
        """Joules by component of the host transfers of one input [designs]."""
        return host_joules(self)

    @cached_property
    def _operator_j(self) -> dict[str, Float64]:
        """Joules by component of one input, without what flows all the time."""
        found = {name: of_all_nests(joules, self.model.repeats) for name, joules in self.nest_j.items()}
        for name, joules in self.host_j.items():
            found[name] = found.get(name, 0.0) + joules
        return found

    def energy_j(self, inputs: int, elapsed_s: Float64) -> dict[str, Float64]:
        """Joules by component (energy.COMPONENTS) of so many inputs in `elapsed_s` [designs]."""
        found = {name: inputs * joules for name, joules in self._operator_j.items()}
        for name in IDLE:
            found[name] = found.get(name, 0.0) + self.costs.idle_w[name] * elapsed_s
        return {name: found[name] for name in COMPONENTS}

    @cached_property
    def floors(self) -> dict[str, Float64]:
        """Seconds that the work of one input takes on every kind of resource, whatever the order: no run is faster."""
        repeats, on_vector = self.model.repeats, self.choice[:, :, 1] == 1
        cores = self.hardware[:, :, kernel.CORES].sum(axis=1)[:, None]
        moved = self.traffic[:, :, tile_traffic.DRAM_READ] + self.traffic[:, :, tile_traffic.DRAM_WRITE]
        # The search counts every tile as large as the largest.
        share = moved / self.cost[:, :, kernel.DRAM_BYTES]
        achieved = self.designs.column("calibration", "array_efficiency")
        host_bw = np.maximum(1, self.designs.column("host", "bandwidth_bytes_per_s"))
        return {
            "array": of_all_nests(np.where(on_vector, 0.0, self._array_s), repeats) / achieved,
            "vector": of_all_nests(self.cost[:, :, kernel.VECTOR_S] / cores, repeats),
            "dram": of_all_nests(self.cost[:, :, kernel.DRAM_S] * share, repeats),
            "port": of_all_nests(moved / self.hardware[:, :1, kernel.PORTS_BW], repeats),
            "dispatch": self.launch_s,
            "host": self.host_bytes / host_bw,
        }

    @cached_property
    def peak_macs_per_s(self) -> Float64:
        """[designs, nests]: all arrays together at the format of every nest; 0 where none has it."""
        h, which = self.hardware, np.maximum(0, self.model.format_of)
        rate = self.rates[:, :, :, 0] / self.rates[:, :, :, 1]
        pes = h[:, :, kernel.CORES] * h[:, :, kernel.ROWS] * h[:, :, kernel.COLS] * h[:, :, kernel.ARRAYS]
        peak = np.einsum("dk,dkf->df", pes * h[:, :, kernel.CLOCK_HZ], rate)
        return np.where(self.model.format_of >= 0, peak[:, which], 0.0)

    @cached_property
    def _array_s(self) -> Float64:
        """Least time of every nest's products on all arrays [designs, nests]."""
        macs = np.array([nest.macs for nest in self.model.nests], np.float64)
        peak = self.peak_macs_per_s
        return np.where(peak > 0, macs / np.where(peak > 0, peak, 1.0), 0.0)

    @cached_property
    def array_s(self) -> Float64:
        """Time of one input's products on all arrays at their peak."""
        return of_all_nests(self._array_s, self.model.repeats)


def of_all_nests(values: Float64, repeats: Int64) -> Float64:
    """The sum over the last axis, each nest as often as it is repeated. Not a matrix product: BLAS adds up in an order
    that depends on how many designs there are, and a design's numbers must not."""
    return np.asarray(np.ascontiguousarray(values * repeats).sum(axis=-1))


def evaluate(model: Model, designs: Designs, partitions: Partitions, dataflow: str | None = None) -> Bounds:
    """The bound of a model on every design. `partitions` gives the cuts over cores to try, `dataflow` overrides the
    arrays' own. Time and memory grow with designs x distinct nests."""
    tables = model.tables
    hardware = timing_columns(designs, dataflow)
    rates = rate_columns(designs, model.formats)
    work, work_of = nest_work.work_tables(model.nests, designs)
    shape = (len(designs), len(model.nests))
    cost, traffic = np.empty((*shape, kernel.COSTS)), np.full((*shape, tile_traffic.TRAFFIC), np.nan)
    choice = np.zeros((*shape, 4 + 2 * tables.extent.shape[1]), np.int64)
    cuts, cuts_of = joined_cuts(model.nests, tables, model.known_cuts, partitions, designs)
    given = Inputs(
        hardware, rates, model.format_of, work, work_of, cuts.splits, cuts_of, cuts.wires, cuts.shares,
        cuts.share_count, *granules(hardware),
    )  # fmt: skip
    groups = alike(hardware, (rates, work_of, cuts_of), kernel.PREFERRED_SHARE)
    best_tilings(tables, given, groups, cost, traffic, choice)
    of_choice = np.take_along_axis(work_of, np.maximum(0, choice[:, :, 0]), axis=1)
    chosen = work[of_choice, np.arange(len(model.nests))]
    return Bounds(model, designs, hardware, rates, cost_columns(designs), cost, traffic, choice, chosen)
