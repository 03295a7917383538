"""The whole way, spelled out once: model + chip -> graph -> program -> timeline -> report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, get_args

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.garbage import no_collections
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip, load_chip
from sim.hw.core import Dataflow
from sim.hw.overrides import parse_overrides
from sim.mapping.memo import Recent
from sim.program import Program
from sim.report.report import Report
from sim.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd

    from sim.cost.variants import Variants
    from sim.engine.verification import Verification
    from sim.graph.nest import Nest

Progress = Callable[[str], None]
Fidelity = Literal["event", "bound"]
Engine = Literal["compiled", "reference"]
Attention = Literal["stored", "fused", "auto"]

FEWEST_LAYERS = 3
"""Of a sample: the first, one for those left out, and the last."""


class Options(TypedDict, total=False):
    """What to run, in the words of the command line. Left out: as the model is, one input, partition auto."""

    batch: int | None
    dtype: str | None
    inputs: int
    partition: str
    dataflow: Dataflow | None
    phase: str | None
    seq: int | None
    kv: int | None
    new_tokens: int | None
    dims: Mapping[str, int] | None
    weights: str | None
    chips: int | None
    density: float | Mapping[str, float] | None
    attention: Attention
    sample_layers: int | None


_LEFT_OUT: Options = {
    "batch": None, "dtype": None, "inputs": 1, "partition": "auto", "dataflow": None, "phase": None, "seq": None,
    "kv": None, "new_tokens": None, "dims": None, "weights": None, "chips": None, "density": None,
    "attention": "auto", "sample_layers": None,
}  # fmt: skip

_WHOLE = {"batch", "inputs", "seq", "kv", "new_tokens", "chips", "sample_layers"}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _with_options(function: _Function) -> _Function:
    """The function with the names and defaults of `Options` in its signature, for help() and completion."""
    import inspect

    shown = inspect.signature(function)
    own = [one for one in shown.parameters.values() if one.kind is not one.VAR_KEYWORD]
    hints = Options.__annotations__
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in _LEFT_OUT.items()
    ]
    function.__signature__ = shown.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    return function


_SEARCHES: Recent[object, Any] = Recent(1 << 13)
"""Tile searches of this process: the same layer on the same cores is searched once. Some 5 KB each."""

_GRAPHS: Recent[object, list[tuple[Graph, int]]] = Recent(1 << 28, lambda parts: _size_bytes(parts))
"""Models of this process after their passes, with the values that some files have."""

_MODELS: Recent[object, Variants] = Recent(32)
"""Models of this process as distinct loop nests."""


@_with_options
def simulate(
    model: str | Graph,
    chip: str | Chip,
    *,
    overrides: Mapping[str, object] | Iterable[str] = (),
    fidelity: Fidelity = "event",
    engine: Engine | None = None,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Report:
    """Simulate a model on a chip.

    `model` and `chip` are names, paths or objects; `overrides` are chip parameters ("core.array.rows=256"). The options
    (`Options`) are batch, dtype, inputs, partition, dataflow, phase, seq, kv, new_tokens, dims, weights, chips,
    density, attention and sample_layers, as on the command line: back-to-back `inputs` overlap; of a transformer that
    `chips` share, one is simulated; `density` is the share of activations that are not zero, of all of them or by the
    name of a tensor ("" for those not named), for chips that make use of zeros; `attention` says where scores are:
    stored in memory, on the chip (fused, by an online softmax), or where it is faster by the closed form (auto); of
    equal layers that a shared cache tells apart at most `sample_layers` are simulated, the others count as the last,
    and the report says how far they differ. Fidelity `bound` is the closed form: an estimate, no lower bound, and no
    engine runs. `engine` is compiled unless said. Raises InputError (bad input) and DoesNotFit.
    """
    from sim.hw.technology import load_technology
    from sim.report.report import build_report

    _check_engine(fidelity, engine)
    if fidelity == "bound" and options.get("sample_layers") is not None:
        raise InputError("sample_layers chooses which layers are simulated; fidelity bound simulates none")
    began = time.perf_counter()
    say = progress or _silent
    with no_collections():
        graph, on, program = plan(model, chip, overrides=overrides, progress=progress, **options)
        timeline = None if fidelity == "bound" else _run(program, engine or "compiled", say)
        say("accounting for time and energy")
        asked = _complete(options)
        density = asked["density"]
        told = {
            "model": model if isinstance(model, str) else model.name,
            **asked,
            "dims": dict(asked["dims"] or {}),
            "density": dict(density) if isinstance(density, Mapping) else density,
            "fidelity": fidelity,
            "engine": None if timeline is None else timeline.engine,
        }
        technology = load_technology(on.technology)
        wall_s = time.perf_counter() - began
        return build_report(graph, on, technology, program, timeline, options=told, wall_s=wall_s)


@_with_options
def plan(
    model: str | Graph,
    chip: str | Chip,
    *,
    overrides: Mapping[str, object] | Iterable[str] = (),
    baseline: bool = False,
    functional: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> tuple[Graph | Passes, Chip, Program]:
    """Everything before the clock starts: the model after its passes, the chip, the program. Options and errors as
    `simulate`; with `baseline`, `program.facts["partition"]` compares the partition with one core; with
    `functional`, the program has what it takes to compute numbers (of one pass only, else InputError)."""
    from sim.jit import announce_compilation
    from sim.mapping.mapper import map_graph

    say, asked = progress or _silent, _complete(options)
    dataflow = asked["dataflow"]
    on = load_chip(chip, overrides) if isinstance(chip, str) else _changed(chip, overrides)
    if dataflow is not None:
        _check_choice("dataflow", dataflow, get_args(Dataflow))
        if not any(kind.array for kind in on.cores):
            raise InputError(f"dataflow: chip '{on.name}' has no arrays")
        _check_row_stationary(dataflow, on)
    _check_choice("attention", asked["attention"], get_args(Attention))
    sampled = asked["sample_layers"]
    if functional and sampled is not None:
        raise InputError("sample_layers chooses which layers are simulated; numbers are computed of all")
    if sampled is not None and sampled < FEWEST_LAYERS:
        raise InputError(f"sample_layers: found {sampled}; expected {FEWEST_LAYERS} or more layers to be simulated")
    say("reading the model")
    graph = _load(model, asked, on, values=functional)
    if functional and isinstance(graph, Passes):
        raise InputError("values: text generation is several passes; check phase prefill and phase decode")
    say("mapping operators to cores and tiles")
    with announce_compilation(progress):
        program = map_graph(
            graph,
            on,
            partition=asked["partition"],
            dataflow=dataflow,
            inputs=asked["inputs"],
            functional=functional,
            baseline=baseline,
            memo=_SEARCHES,
        )
    return graph, on, replace(program, sampled=sampled) if sampled else program


@_with_options
def verify_values(
    model: str | Graph,
    chip: str | Chip,
    *,
    overrides: Mapping[str, object] | Iterable[str] = (),
    seed: int = 0,
    integers: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Verification:
    """Compute a model's numbers tile by tile, as the chip would, and compare them with NumPy's.

    Values are random, of a `seed`, whole numbers with `integers`; `inputs` overlap and have the same values. Options
    and errors as `plan`. Also raises InputError for text generation, which is several passes, and for a model too
    large to be computed.
    """
    from sim.engine.verification import verify

    say = progress or _silent
    graph, on, program = plan(
        model, chip, overrides=overrides, functional=True, progress=progress, **options
    )
    assert isinstance(graph, Graph)  # plan refuses several passes
    say(f"computing {program.tasks:,} tasks")
    return verify(program, graph, on.name, seed=seed, integers=integers)


@_with_options
def bound(
    model: str | Graph,
    chip: str | Chip | Sequence[Chip],
    columns: Mapping[str, Sequence[object]] | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> pd.DataFrame:
    """A model on N designs at once by the compiled closed form (sim/cost/bound.py): one row per design, in order.
    `latency_s` is an estimate, some per cent off on either side; the lower bound on it is `bound_latency_s`.

    `chip` is a base chip (name, path or object) with `columns` of changed parameters by path, all of one length N
    ({"core.array.rows": [64, 128], "core.sram.size": ["2 MiB", "4 MiB"]}); or a list of chips without `columns`.
    The other options are those of `simulate`; `partition` is a mode, not a pipeline or a file. `progress` is told when
    the closed form has to be compiled first, which takes up to a minute.

    Returned columns: the parameters, the keys of `Report.summary` that the bound has (latency_s, throughput_per_s,
    energy_j, energy_per_input_j, power_w, area_mm2, dram_read_bytes, ...), and `error`: "" or why the design cannot
    run the model, in which case the numbers of its row that depend on a mapping are NaN. Raises InputError on bad
    input. A model is read and compiled once per process; calls with thousands of designs are the cheapest per
    design.
    """
    import pandas as pd

    from sim.cost.designs import designs_from, designs_of
    from sim.cost.variants import evaluate_variants
    from sim.jit import announce_compilation
    from sim.mapping.partition import MODES
    from sim.mapping.sites import check_attention, check_dtypes
    from sim.report.bound_table import bound_columns

    asked = _complete(options)
    partition, dataflow = asked["partition"], asked["dataflow"]
    _check_choice("partition", partition, tuple(MODES))
    if asked["sample_layers"] is not None:
        raise InputError("sample_layers chooses which layers are simulated; the bound of many designs simulates none")
    if asked["density"] is not None:
        raise InputError("density: the bound of many designs knows none; simulate such chips one by one")
    _check_choice("attention", asked["attention"], get_args(Attention))
    if dataflow is not None:
        _check_choice("dataflow", dataflow, get_args(Dataflow))
    if isinstance(chip, str | Chip):
        base = load_chip(chip) if isinstance(chip, str) else chip
        designs = designs_from(base, columns or {})
    elif columns:
        raise InputError("columns of parameters change one base chip; found a list of chips")
    else:
        designs = designs_of(chip)
    if dataflow is not None:
        for one in designs.chips:
            _check_row_stationary(dataflow, one)
    compiled = _compiled(model, asked)
    whole = compiled.every.graph
    for one in designs.chips:
        for part, _ in whole.parts if isinstance(whole, Passes) else ((whole, 1),):
            check_dtypes(part, one)
            check_attention(part, one)
    with announce_compilation(progress):
        found = evaluate_variants(compiled, designs, _splits_of(partition), dataflow)
    told = [
        pd.DataFrame(bound_columns(bounds, partition=partition, inputs=asked["inputs"]), index=pd.Index(rows))
        for bounds, rows in found
    ]
    return told[0] if len(told) == 1 else pd.concat(told).sort_index()


@cache
def _splits_of(mode: str) -> Callable[[Nest, int], list[tuple[int, ...]]]:
    """The cuts over cores of a mode; the same object every time, by which a model knows them again."""
    from sim.mapping.partition import mode_splits

    return partial(mode_splits, mode)


def _complete(given: Options) -> Options:
    """With what was left out. Raises TypeError for what is no option, as Python does, InputError."""
    stray = given.keys() - _LEFT_OUT.keys()
    if stray:
        name = min(stray)
        raise TypeError(f"unexpected option '{name}'; {did_you_mean(name, _LEFT_OUT) or 'see sim.pipeline.Options'}")
    found: Options = {**_LEFT_OUT, **given}
    for name in _WHOLE & given.keys():
        value = given[name]  # type: ignore[literal-required]
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise InputError(f"{name}: found {value!r}; expected a whole number")
    if found["inputs"] < 1:
        raise InputError(f"inputs: found {found['inputs']}; expected a positive number of back-to-back inputs")
    return found


def _variant(asked: Options) -> dict[str, Any]:
    """Of all options those that choose a variant of a model."""
    return {
        "batch": asked["batch"], "phase": asked["phase"], "seq": asked["seq"], "kv": asked["kv"],
        "new_tokens": asked["new_tokens"], "dims": asked["dims"], "weights": asked["weights"], "chips": asked["chips"],
    }  # fmt: skip


def _compiled(model: str | Graph, asked: Options) -> Variants:
    """The model as distinct loop nests, with each of its attentions in the ways asked for; one that was named is kept
    for the next call, unless its file changes."""
    from sim.passes.attention_variants import variants

    how = asked["attention"]
    if isinstance(model, Graph):
        return variants(_parts(model, asked), how, _passes)
    key = _model_key(model, asked), how
    found = _MODELS.get(key)
    if found is None:
        found = _MODELS[key] = variants(_parts(model, asked), how, _passes)
    return found


def _model_key(model: str, asked: Options) -> object:
    """What a named model's graph depends on; its file as it is now."""
    from sim.graph.load import model_file

    file = model_file(model)
    return model, file and (file, file.stat().st_mtime_ns), asked["dtype"], repr(_variant(asked))


def _size_bytes(parts: list[tuple[Graph, int]]) -> int:
    """About what graphs take: values of weights, and a few KiB for every operator."""
    return sum(
        sum(values.nbytes for values in part.values.values()) + (len(part.ops) << 14) for part, _ in parts
    )


def _parts(model: str | Graph, asked: Options) -> list[tuple[Graph, int]]:
    """The model after those passes that are the same for all chips."""
    from sim.graph.load import load_plan
    from sim.passes import default_passes

    dtype = asked["dtype"]
    if isinstance(model, Graph):
        _refuse_for_graph(_variant(asked))
        return [(default_passes(model.with_dtype(dtype) if dtype else model), 1)]
    key = _model_key(model, asked)
    found = _GRAPHS.get(key)
    if found is None:
        parts = load_plan(model, dtype=dtype, **_variant(asked))
        found = _GRAPHS[key] = [(default_passes(part), count) for part, count in parts]
    return found


def _load(model: str | Graph, asked: Options, on: Chip, *, values: bool) -> Graph | Passes:
    """The model after its passes for chip `on`: with its attentions and the density of its activations as asked for,
    and products side by side where that is faster; with the `values` that a file has, if they are wanted."""
    from sim.mapping.one_or_several import faster_of, joins_of
    from sim.passes.attention import fused_everywhere, with_attention
    from sim.passes.density import with_density
    from sim.passes.side_by_side import side_by_side

    how, density, ready = asked["attention"], asked["density"], _parts(model, asked)
    if how == "fused":
        ready = fused_everywhere(ready)
    elif how == "auto":
        faster = faster_of(on, asked["partition"], _SEARCHES)
        ready = [(with_attention(one, faster), count) for one, count in ready]
    ready = ready if density is None else with_density(ready, density, on)
    joins = joins_of(on, asked["partition"], _SEARCHES)
    return _passes([(side_by_side(one, joins, values=values), count) for one, count in ready])


def _check_choice(option: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        hint = did_you_mean(found, known) or f"one of {', '.join(known)}"
        raise InputError(Diagnostic(f"unknown {option} '{found}'", hint=hint))


def _check_row_stationary(dataflow: str, chip: Chip) -> None:
    """Row-stationary arrays are built for that dataflow, and others cannot take it."""
    for kind in chip.cores:
        if kind.array is not None and (kind.array.row_stationary is None) == (dataflow == "row_stationary"):
            raise InputError(
                Diagnostic(
                    f"dataflow: the arrays of core '{kind.name}' of chip '{chip.name}' cannot work {dataflow}",
                    hint="row_stationary needs the PEs that a block array.row_stationary describes, and only those",
                )
            )


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
