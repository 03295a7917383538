"""The transfers that look into the cache: gathered while steps are lowered, sorted into the probes of a segment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.mapping.regions import Regions
from sim.mapping.step import Plan, Step
from sim.mapping.template import Template
from sim.program import RESULT, Int64, Policy, Probes

Values = npt.ArrayLike


@dataclass
class ProbeLog:
    """The probes of a segment as they are found."""

    plan: Plan
    tensors: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[Int64, ...]] = field(default_factory=list)
    kinds: list[tuple[int, int, int]] = field(default_factory=list)  # of each of `rows`: write, policy, tensor
    levels: list[tuple[Int64, Int64]] = field(default_factory=list)

    def step(self, step: Step, template: Template, final: Int64, routes: Int64, number: int) -> None:
        """The transfers of a step for input `number`: `final` ids of its tasks, `routes` of its paths."""
        for found in template.lookups:
            write = found.operand == RESULT
            operand = step.nest.out if write else step.nest.operands[found.operand]
            ways = (routes[found.hit_path], found.hit_dur, routes[found.rest_path])
            self.add(final[found.tasks], operand.tensor.name, write, found.policy, found.where, ways, number)

    def add(
        self,
        tasks: Int64,
        tensor: str,
        write: bool,
        policy: Policy,
        where: Regions,
        ways: tuple[Values, Values, Values],
        number: int,
    ) -> None:
        """`tasks` probe regions of a tensor of input `number`. `ways`: hit route, hit latency, rest route."""
        root = self.plan.root(tensor)
        row = self.tensors.setdefault(root, len(self.tensors))
        address = where.offset_bytes + self.plan.dram_address(root, number)
        hit_route, hit_dur, rest_route = (np.asarray(way, np.int64) for way in ways)
        columns = (tasks, address, where.run_bytes, hit_route, hit_dur, rest_route)
        self.rows.append(tuple(c.reshape(-1) for c in columns))
        self.kinds.append((int(write), int(policy), row))
        levels = (where.count, where.pitch_bytes)
        self.levels.append(tuple(c.reshape(tasks.size, c.shape[-1]) for c in levels))  # type: ignore[arg-type]

    def probes(self, segment: int, repeats: int) -> Probes | None:
        """Everything found, in order of tasks; None where nothing was."""
        if not self.rows or self.plan.caching is None:
            return None
        columns = [np.concatenate(c) for c in zip(*self.rows, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        task, address, run, hit_route, hit_dur, rest_route = (c[order] for c in columns)
        kinds = np.repeat(np.array(self.kinds, np.int64), [len(tasks) for tasks, *_ in self.rows], axis=0)
        write, policy, tensor = kinds[order].T
        count, pitch = self._regions(len(task))
        used = np.atleast_1d((count > 1).any(axis=0))
        used[-1] |= not used.any()
        return Probes(
            task.astype(np.int32),
            write.astype(np.bool_),
            policy.astype(np.int8),
            tensor.astype(np.int32),
            address,
            run,
            np.ascontiguousarray(count[order][:, used]),
            np.ascontiguousarray(pitch[order][:, used]),
            hit_route.astype(np.int32),
            hit_dur,
            rest_route.astype(np.int32),
            tuple(self.tensors),
            self.plan.caching.shift(segment, tuple(self.tensors), repeats),
        )

    def _regions(self, rows: int) -> tuple[Int64, Int64]:
        """Counts and pitches [probes, levels], outer levels of the shallower regions filled up."""
        deepest = max(1, *(pair[0].shape[1] for pair in self.levels))
        count, pitch = np.ones((rows, deepest), np.int64), np.zeros((rows, deepest), np.int64)
        at = 0
        for many, far in self.levels:
            if many.shape[1]:
                count[at : at + len(many), -many.shape[1] :] = many
                pitch[at : at + len(many), -many.shape[1] :] = far
            at += len(many)
        return count, pitch
