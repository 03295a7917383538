"""The whole way, spelled out once: model + chip -> graph -> program -> timeline -> report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from sim.errors import InputError
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip, load_chip
from sim.hw.core import Dataflow
from sim.program import Program
from sim.report.report import Report

Progress = Callable[[str], None]

_SEARCHES: dict[object, Any] = {}
"""Tile searches of this process: the same layer on the same cores is searched once."""


def simulate(
    model: str | Graph,
    chip: str | Chip,
    *,
    batch: int | None = None,
    dtype: str | None = None,
    inputs: int = 1,
    partition: str = "auto",
    dataflow: Dataflow | None = None,
    phase: str | None = None,
    seq: int | None = None,
    kv: int | None = None,
    new_tokens: int | None = None,
    dims: Mapping[str, int] | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    fidelity: Literal["event", "bound"] = "event",
    engine: Literal["compiled", "reference"] = "compiled",
    progress: Progress | None = None,
) -> Report:
    """Simulate a model on a chip.

    `model` and `chip` are names, paths or objects; `overrides` are chip parameters ("core.array.rows=256");
    `inputs` back-to-back inputs overlap; the other options are those of the command line, in the same words.
    Raises InputError (bad input) and DoesNotFit.
    """
    from sim.engine import run
    from sim.hw.technology import load_technology
    from sim.report.report import build_report

    began = time.perf_counter()
    say = progress or _silent
    graph, on, program = plan(
        model,
        chip,
        batch=batch,
        dtype=dtype,
        inputs=inputs,
        partition=partition,
        dataflow=dataflow,
        phase=phase,
        seq=seq,
        kv=kv,
        new_tokens=new_tokens,
        dims=dims,
        overrides=overrides,
        progress=progress,
    )
    say(f"simulating {program.tasks:,} tasks")
    timeline = run(program, engine, say)
    say("accounting for time and energy")
    options = {
        "model": model if isinstance(model, str) else model.name,
        "batch": batch,
        "dtype": dtype,
        "inputs": inputs,
        "partition": partition,
        "dataflow": dataflow,
        "phase": phase,
        "seq": seq,
        "kv": kv,
        "new_tokens": new_tokens,
        "dims": dict(dims or {}),
        "fidelity": fidelity,
        "engine": engine,
    }
    technology = load_technology(on.technology)
    wall_s = time.perf_counter() - began
    return build_report(graph, on, technology, program, timeline, options=options, wall_s=wall_s)


def plan(
    model: str | Graph,
    chip: str | Chip,
    *,
    batch: int | None = None,
    dtype: str | None = None,
    inputs: int = 1,
    partition: str = "auto",
    dataflow: Dataflow | None = None,
    phase: str | None = None,
    seq: int | None = None,
    kv: int | None = None,
    new_tokens: int | None = None,
    dims: Mapping[str, int] | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    progress: Progress | None = None,
) -> tuple[Graph | Passes, Chip, Program]:
    """Everything before the clock starts: the model after its passes, the chip, the program. Options and errors as
    `simulate`."""
    from sim.graph.load import load_plan
    from sim.mapping.mapper import map_graph
    from sim.passes import default_passes

    say = progress or _silent
    if inputs < 1:
        raise InputError(f"inputs: found {inputs}; expected a positive number of back-to-back inputs")
    on = load_chip(chip, overrides) if isinstance(chip, str) else chip.replace_many(_pairs(overrides))
    say("reading the model")
    if isinstance(model, Graph):
        parts = [(model.with_dtype(dtype) if dtype else model, 1)]
    else:
        parts = load_plan(
            model, batch=batch, dtype=dtype, phase=phase, seq=seq, kv=kv, new_tokens=new_tokens, dims=dims
        )
    graph = _passes([(default_passes(part), count) for part, count in parts])
    say("mapping operators to cores and tiles")
    program = map_graph(graph, on, partition=partition, dataflow=dataflow, inputs=inputs, memo=_SEARCHES)
    return graph, on, program


def _passes(parts: list[tuple[Graph, int]]) -> Graph | Passes:
    """One graph, or text generation: a prefill, which gives the first token, and decode steps for the others."""
    if len(parts) == 1:
        return parts[0][0]
    steps = sum(part.items * count for part, count in parts[1:])
    batch = parts[1][0].items
    return Passes(parts[0][0].name.removesuffix(" prefill"), tuple(parts), parts[1][0].unit, steps + batch)


def _pairs(overrides: Mapping[str, object] | Iterable[str]) -> Mapping[str, object]:
    if isinstance(overrides, Mapping):
        return overrides
    return dict(item.split("=", 1) for item in overrides)


def _silent(stage: str) -> None:
    """No progress wanted."""
