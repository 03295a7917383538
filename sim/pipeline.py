"""The whole way, spelled out once: model + chip -> graph -> program -> timeline -> report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip, load_chip
from sim.hw.core import Dataflow
from sim.hw.overrides import parse_overrides
from sim.mapping.memo import Recent
from sim.program import Program
from sim.report.report import Report
from sim.timeline import Timeline

if TYPE_CHECKING:
    from sim.engine.verification import Verification

Progress = Callable[[str], None]
Fidelity = Literal["event", "bound"]
Engine = Literal["compiled", "reference"]

_SEARCHES: Recent[object, Any] = Recent(1 << 13)
"""Tile searches of this process: the same layer on the same cores is searched once. Some 5 KB each."""

MAX_SEARCHES = 20_000
"""Remembered at most (about 1 KiB each): a process that sweeps over thousands of chips forgets the earlier ones."""


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
    fidelity: Fidelity = "event",
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Report:
    """Simulate a model on a chip.

    `model` and `chip` are names, paths or objects; `overrides` are chip parameters ("core.array.rows=256");
    `inputs` back-to-back inputs overlap; the other options are those of the command line, in the same words.
    Fidelity `bound` is the closed form: no engine runs. `engine` is compiled unless said. Raises InputError (bad
    input) and DoesNotFit.
    """
    from sim.hw.technology import load_technology
    from sim.report.report import build_report

    _check_engine(fidelity, engine)
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
    timeline = None if fidelity == "bound" else _run(program, engine or "compiled", say)
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
        "engine": None if timeline is None else timeline.engine,
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
    baseline: bool = False,
    functional: bool = False,
    progress: Progress | None = None,
) -> tuple[Graph | Passes, Chip, Program]:
    """Everything before the clock starts: the model after its passes, the chip, the program. Options and errors as
    `simulate`; with `baseline`, `program.facts["partition"]` compares the partition with one core; with
    `functional`, the program has what it takes to compute numbers (of one pass only, else InputError)."""
    from sim.graph.load import load_plan
    from sim.mapping.mapper import map_graph
    from sim.passes import default_passes

    say = progress or _silent
    if inputs < 1:
        raise InputError(f"inputs: found {inputs}; expected a positive number of back-to-back inputs")
    on = load_chip(chip, overrides) if isinstance(chip, str) else _changed(chip, overrides)
    if dataflow is not None:
        _check_choice("dataflow", dataflow, get_args(Dataflow))
        if not any(kind.array for kind in on.cores):
            raise InputError(f"dataflow: chip '{on.name}' has no arrays")
    say("reading the model")
    variant: dict[str, Any] = {
        "batch": batch, "phase": phase, "seq": seq, "kv": kv, "new_tokens": new_tokens, "dims": dims
    }  # fmt: skip
    if isinstance(model, Graph):
        _refuse_for_graph(variant)
        parts = [(model.with_dtype(dtype) if dtype else model, 1)]
    else:
        parts = load_plan(model, dtype=dtype, **variant)
    graph = _passes([(default_passes(part), count) for part, count in parts])
    if functional and isinstance(graph, Passes):
        raise InputError("values: text generation is several passes; check phase prefill and phase decode")
    say("mapping operators to cores and tiles")
    if len(_SEARCHES) > MAX_SEARCHES:
        _SEARCHES.clear()
    program = map_graph(
        graph,
        on,
        partition=partition,
        dataflow=dataflow,
        inputs=inputs,
        functional=functional,
        baseline=baseline,
        memo=_SEARCHES,
    )
    return graph, on, program


def verify_values(
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
    seed: int = 0,
    integers: bool = False,
    progress: Progress | None = None,
) -> Verification:
    """Compute a model's numbers tile by tile, as the chip would, and compare them with NumPy's.

    Values are random, of a `seed`, whole numbers with `integers`; `inputs` overlap and have the same values. Options
    and errors as `plan`. Also raises InputError for text generation, which is several passes, and for a model too
    large to be computed.
    """
    from sim.engine.verification import verify

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
        functional=True,
        progress=progress,
    )
    assert isinstance(graph, Graph)  # plan refuses several passes
    say(f"computing {program.tasks:,} tasks")
    return verify(program, graph, on.name, seed=seed, integers=integers)


def _check_choice(option: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        hint = did_you_mean(found, known) or f"one of {', '.join(known)}"
        raise InputError(Diagnostic(f"unknown {option} '{found}'", hint=hint))


def _check_engine(fidelity: str, engine: str | None) -> None:
    _check_choice("fidelity", fidelity, get_args(Fidelity))
    if engine is not None:
        _check_choice("engine", engine, get_args(Engine))
    if fidelity == "bound" and engine is not None:
        raise InputError("engine chooses how events are simulated; fidelity bound simulates none")


def _run(program: Program, engine: Engine, say: Progress) -> Timeline:
    from sim.engine import run

    say(f"simulating {program.tasks:,} tasks")
    return run(program, engine, say)


def _refuse_for_graph(variant: Mapping[str, object]) -> None:
    """A graph is one variant of a model already."""
    given = [name for name, value in variant.items() if value not in (None, {})]
    if given:
        raise InputError(f"{', '.join(given)}: chosen when a model is loaded; a Graph is simulated as it is")


def _passes(parts: list[tuple[Graph, int]]) -> Graph | Passes:
    """One graph, or text generation: a prefill, which gives the first token, and decode steps for the others."""
    if len(parts) == 1:
        return parts[0][0]
    steps = sum(part.items * count for part, count in parts[1:])
    batch = parts[1][0].items
    return Passes(parts[0][0].name.removesuffix(" prefill"), tuple(parts), parts[1][0].unit, steps + batch)


def _changed(chip: Chip, overrides: Mapping[str, object] | Iterable[str]) -> Chip:
    values = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    return chip.replace_many(values) if values else chip


def _silent(stage: str) -> None:
    """No progress wanted."""
