"""What the cache would find if transfers looked into it in the order of the program: for closed forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.cost.repeats import Run, run_all
from sim.program import Probes, Program, TagStore
from sim.timeline import Probed

FIRST_REPEATS = 3
"""Repeats of a segment that are looked at: by then a cache has seen both places that blocks take turns at."""


def probed_in_order(program: Program) -> list[Run[Probed | None]]:
    """What the probes of every segment find, made in ascending order of tasks; repeats after the first few count as
    the last of these. In an engine probes come in the order of time, which overlapping operators make another one."""
    from sim.hw import tags

    cache = program.cache
    store = [tags.empty_tags(1, 1)]

    def begin_pass() -> None:
        if cache is not None:
            skew = tags.skew_of(cache.sets, cache.hashed)
            store[0] = tags.first_tags(cache.sets, cache.ways, cache.line_bytes, skew, cache.warm)

    def run(number: int, repeat: int, earlier: Sequence[Probed | None]) -> Probed | None:
        probes = program.segments[number].probes
        if probes is None or cache is None:
            return None
        if repeat >= FIRST_REPEATS:
            return earlier[-1]
        return _probed(probes, repeat, store[0], cache)

    return run_all(program, begin_pass, run, _same)


def _probed(probes: Probes, repeat: int, store: np.ndarray, cache: TagStore) -> Probed:
    from sim.hw import tags

    order = np.arange(len(probes.task))
    found = np.zeros((len(order), 4), np.int64)
    tags.probe_all(
        store,
        cache.line_bytes,
        tags.skew_of(cache.sets, cache.hashed),
        order,
        probes.addresses(repeat),
        np.array(probes.run_bytes, np.int64),
        np.array(probes.count, np.int64),
        np.array(probes.pitch, np.int64),
        np.array(probes.write, np.bool_),
        np.array(probes.policy, np.int8),
        found,
        np.zeros((0, 4), np.int64),
    )
    return Probed(*(found[:, part].copy() for part in range(4)))


def _same(a: Probed | None, b: Probed | None) -> bool:
    if a is None or b is None or a is b:
        return a is b
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Probed.__slots__)
