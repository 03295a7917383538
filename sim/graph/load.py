"""Any way to name a model, to a Graph: a workload, a file, or `gemm:MxNxK`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from sim.config import Document, Field, Part, data_dir, load_yaml, validate
from sim.errors import Diagnostic, FieldError, InputError, did_you_mean
from sim.graph.families import FAMILIES, Family
from sim.graph.graph import Graph
from sim.graph.packing import pack_weights, parse_packing
from sim.graph.scalesim_csv import load_scalesim_csv
from sim.graph.shapes import MAX_CHIPS
from sim.graph.tensor import DTYPE_BITS, MAX_ELEMENTS, MAX_EXTENT
from sim.graph.transformer import PHASES, check_lengths, generate_plan, required_lengths, transformer_graph
from sim.graph.transformer_config import TransformerConfig, known_keys, load_hf_config

DEFAULT_DTYPE = "bf16"
"""Number format of a model that names none of its own."""

SCALESIM_DTYPE = "int8"
"""A word of SCALE-Sim's topologies and configurations is a byte."""

TRANSFORMER = "transformer"
"""Family of the workloads whose parameters are those of a Hugging Face config.json."""

MAX_TOKENS = 2**22
"""Longest --seq, --kv and --new-tokens: rotary tables are computed in full, 2 GiB each at this length."""

Plan = list[tuple[Graph, int]]


@dataclass(frozen=True, slots=True)
class Expected(Part):
    """What is published of a model, `source` says where and how it is counted. Tolerances are relative."""

    macs: Annotated[int | None, Field(gt=0, description="multiply-accumulates as run")] = None
    parameters: Annotated[int | None, Field(gt=0, description="learned parameters")] = None
    macs_tolerance: Annotated[float, Field(ge=0, lt=1, description="accepted error of macs")] = 0.01
    parameters_tolerance: Annotated[float, Field(ge=0, lt=1, description="accepted error of parameters")] = (
        0.0
    )


@dataclass(frozen=True, slots=True)
class Workload(Part):
    """A file of workloads/: a family with parameters, and how it is run unless told otherwise."""

    name: Annotated[str, Field(min_length=1, description="name in reports")]
    family: Annotated[str, Field(description="a model family, or transformer")]
    parameters: Annotated[
        dict[str, Any], Field(description="of the family; of a transformer, its Hugging Face config.json")
    ]
    batch: Annotated[int, Field(ge=1, description="inputs of one pass")] = 1
    dtype: Annotated[str | None, Field(description="native number format")] = None
    phase: Annotated[str | None, Field(description="prefill, decode, generate or encode")] = None
    seq: Annotated[int | None, Field(ge=1, description="tokens of a sequence")] = None
    kv: Annotated[int | None, Field(ge=0, description="tokens in the cache before a decode step")] = None
    new_tokens: Annotated[int | None, Field(ge=1, description="tokens to generate")] = None
    expected: Annotated[Expected | None, Field(description="published figures")] = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPE_BITS:
            raise FieldError([(("dtype",), f"unknown dtype '{self.dtype}'; one of {', '.join(DTYPE_BITS)}")])


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of the list of models; `macs` and `parameters` are the published figures, if any."""

    name: str
    family: str
    domain: str
    macs: int | None
    parameters: int | None
    path: Path


@dataclass(frozen=True, slots=True)
class _Options:
    """What the user asked for; None where nothing was said."""

    batch: int | None = None
    dtype: str | None = None
    phase: str | None = None
    seq: int | None = None
    kv: int | None = None
    new_tokens: int | None = None
    dims: Mapping[str, int] | None = None
    weights: str | None = None
    chips: int | None = None

    def refuse_all_but(self, accepted: frozenset[str], what: str) -> None:
        """Raise InputError that names every option given that means nothing to this kind of model."""
        given = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        stray = [name for name in given if name not in accepted and not (name == "dims" and not self.dims)]
        if stray:
            message = "does not apply to" if len(stray) == 1 else "do not apply to"
            raise InputError(f"{', '.join(stray)}: {message} {what}")


_SUFFIXES = (".onnx", ".yaml", ".yml", ".json", ".csv")

_EXPORTED = "export the model as ONNX (torch.onnx.export, tf2onnx, ...), or give a config.json of a transformer"
_ELSEWHERE = dict.fromkeys(
    (".pt", ".pth", ".h5", ".keras", ".pb", ".tflite", ".safetensors", ".gguf", ".mlmodel"), _EXPORTED
)
"""Formats of other tools, and what to do with them."""

_PLAIN = frozenset({"batch", "dtype", "weights"})
_SEQUENCE = _PLAIN | {"phase", "seq", "kv", "new_tokens", "chips"}


def load_model(
    spec: str,
    *,
    batch: int | None = None,
    dtype: str | None = None,
    phase: str | None = None,
    seq: int | None = None,
    kv: int | None = None,
    new_tokens: int | None = None,
    dims: Mapping[str, int] | None = None,
    weights: str | None = None,
    chips: int | None = None,
) -> Graph:
    """One pass of a model.

    `spec` is a name from workloads/, a path (.onnx, a workload .yaml, a Hugging Face config.json, a SCALE-Sim
    topology .csv) or `gemm:MxNxK`, `gemm:BxMxNxK` for B independent ones. The batch of an ONNX model is
    the symbolic dimension that its inputs begin with; `dims` has the others. Graph.items counts inferences (the
    batch) or tokens (batch * seq of a prefill, batch of
    a decode step). `weights` (int4, int8, fp8, or int4:64 for groups of 64) keeps the matrices of the layers packed
    (sim/graph/packing.py); a config.json with a `quantization_config` says so itself. A transformer that `chips` chips
    share is what one of them does (tensor parallelism).

    Raises InputError for an unknown model, a bad file, and any option that does not apply to the model.
    """
    plan = load_plan(
        spec, batch=batch, dtype=dtype, phase=phase, seq=seq, kv=kv, new_tokens=new_tokens, dims=dims, weights=weights,
        chips=chips,
    )  # fmt: skip
    if len(plan) > 1:
        raise InputError(f"{spec}: phase 'generate' is several passes, not one; load_plan gives them")
    return plan[0][0]


def load_plan(
    spec: str,
    *,
    batch: int | None = None,
    dtype: str | None = None,
    phase: str | None = None,
    seq: int | None = None,
    kv: int | None = None,
    new_tokens: int | None = None,
    dims: Mapping[str, int] | None = None,
    weights: str | None = None,
    chips: int | None = None,
) -> Plan:
    """As load_model, as (graph, repetitions), and for phase `generate` too: a prefill and decode steps."""
    options = _Options(batch, dtype, phase, seq, kv, new_tokens, dims, weights, chips)
    packing = None if weights is None else parse_packing(weights)
    _check(options)
    plan = _plan(spec, options)
    for graph, _ in plan:
        _check_sizes(graph)
    return plan if packing is None else [(pack_weights(graph, packing), count) for graph, count in plan]


def model_file(spec: str) -> Path | None:
    """The file a model comes from; None for `gemm:MxNxK`. Raises InputError where there is none."""
    if spec.startswith("gemm:"):
        return None
    if not spec.strip():
        raise InputError(Diagnostic("MODEL is empty", hint="a name of `lepton list models`, a file, or gemm:MxNxK"))
    elsewhere = _ELSEWHERE.get(Path(spec).suffix.lower())
    if elsewhere is not None:
        raise InputError(Diagnostic("files of this kind are not read", spec, hint=elsewhere))
    if not _is_path(spec):
        return _find_workload(spec)
    path = Path(spec) / "config.json" if _is(Path(spec).is_dir) else Path(spec)
    if not _is(path.is_file):
        hub = re.fullmatch(r"[\w.-]+/[\w.-]+", spec) and path.suffix not in _SUFFIXES and not _is(path.exists)
        hint = "of a model on the Hugging Face hub, download its config.json and give that" if hub else ""
        raise InputError(Diagnostic("no such file", path, hint=hint))
    return path


def _plan(spec: str, options: _Options) -> Plan:
    path = model_file(spec)
    if path is None:
        return [(_gemm(spec, options), 1)]
    return _file(path, options) if _is_path(spec) else _workload(load_workload(path), options)


def _is_path(spec: str) -> bool:
    """A path rather than a name from workloads/."""
    path = Path(spec)
    named = {workload.stem for workload in _workload_files()}
    return path.suffix in _SUFFIXES or "/" in spec or (spec not in named and _is(path.is_dir))


def list_models() -> list[ModelRow]:
    """All of workloads/, by domain and name."""
    rows = []
    for path in _workload_files():
        _, workload = load_workload(path)
        expected = workload.expected or Expected()
        rows.append(
            ModelRow(path.stem, workload.family, path.parent.name, expected.macs, expected.parameters, path)
        )
    return rows


def load_workload(path: Path) -> tuple[Document, Workload]:
    """A workload file. Raises InputError with every complaint at its file, line and column."""
    document = load_yaml(path)
    workload = validate(document, Workload)
    if workload.family != TRANSFORMER and workload.family not in FAMILIES:
        known = [*FAMILIES, TRANSFORMER]
        hint = did_you_mean(workload.family, known) or f"one of {', '.join(sorted(known))}"
        raise InputError(document.complaint(("family",), f"unknown family '{workload.family}'", hint))
    return document, workload


def _workload_files() -> list[Path]:
    return sorted(data_dir("workloads").glob("*/*.yaml"))


def _find_workload(name: str) -> Path:
    files = {path.stem: path for path in _workload_files()}
    if name in files:
        return files[name]
    known = f"known: {', '.join(sorted(files))}; or a path (.onnx, .yaml, .json, .csv), or gemm:MxNxK"
    suggestion = did_you_mean(name, files)
    raise InputError(
        Diagnostic(f"unknown model '{name}'", hint=f"{suggestion}; {known}" if suggestion else known)
    )


def _check(options: _Options) -> None:
    complaints = []
    if options.batch is not None and options.batch < 1:
        complaints.append(f"batch must be positive, found {options.batch}")
    if options.chips is not None and options.chips < 1:
        complaints.append(f"chips must be positive, found {options.chips}")
    if options.dtype is not None and options.dtype not in DTYPE_BITS:
        hint = did_you_mean(options.dtype, DTYPE_BITS)
        complaints.append(f"unknown dtype '{options.dtype}'; {hint or 'one of ' + ', '.join(DTYPE_BITS)}")
    limits = {"batch": MAX_EXTENT, "seq": MAX_TOKENS, "kv": MAX_TOKENS, "new_tokens": MAX_TOKENS, "chips": MAX_CHIPS}
    for name, limit in limits.items():
        value = getattr(options, name)
        if value is not None and value > limit:
            complaints.append(f"{name} must be at most {limit:,}, found {value}")
    if complaints:
        raise InputError([Diagnostic(text) for text in complaints])


def _check_sizes(graph: Graph) -> None:
    """Raise InputError for the largest tensor where it is beyond what the counters are made for."""
    largest = max(graph.tensors.values(), key=lambda tensor: tensor.elements)
    if largest.elements > MAX_ELEMENTS:
        shape = "x".join(map(str, largest.shape))
        message = f"tensor {largest.name} [{shape}] has more than 2^48 elements"
        raise InputError(Diagnostic(message, graph.name, hint="a smaller size, --batch or --dim"))


def _is(test: Callable[[], bool]) -> bool:
    """A question about a path; one that the system cannot even look up is nothing."""
    try:
        return test()
    except (OSError, ValueError):
        return False


def _gemm(spec: str, options: _Options) -> Graph:
    options.refuse_all_but(_PLAIN, "a GEMM")
    match = re.fullmatch(r"gemm:(?:(\d{1,9})x)?(\d{1,9})x(\d{1,9})x(\d{1,9})", spec)
    sizes = [int(size) for size in match.groups(default="1")] if match else [0]
    if min(sizes) < 1:
        raise InputError(f"found '{spec}'; expected gemm:MxNxK or gemm:BxMxNxK with positive sizes")
    count, m, n, k = sizes
    dtype = options.dtype or DEFAULT_DTYPE
    builder = FAMILIES["gemm"].builder
    return builder(name=spec, dtype=dtype, batch=options.batch or 1, m=m, n=n, k=k, count=count)


def _file(path: Path, options: _Options) -> Plan:
    if path.suffix in (".yaml", ".yml"):
        return _workload(load_workload(path), options)
    if path.suffix == ".json":
        options.refuse_all_but(_SEQUENCE, "a transformer")
        return _transformer(load_hf_config(path), options)
    if path.suffix == ".csv":
        options.refuse_all_but(_PLAIN, "a SCALE-Sim topology")
        dtype = options.dtype or SCALESIM_DTYPE
        return [(load_scalesim_csv(path, batch=options.batch or 1, dtype=dtype), 1)]
    if path.suffix == ".onnx":
        from sim.graph.onnx import load_onnx

        options.refuse_all_but(_PLAIN | {"dims"}, "an ONNX model")
        return [(load_onnx(path, options.dims, options.dtype, options.batch), 1)]
    hint = f"expected {', '.join(_SUFFIXES)}"
    raise InputError(Diagnostic(f"unknown kind of model file '{path.suffix}'", path, hint=hint))


def _workload(loaded: tuple[Document, Workload], options: _Options) -> Plan:
    document, workload = loaded
    if workload.family == TRANSFORMER:
        options.refuse_all_but(_SEQUENCE, f"the transformer {workload.name}")
        return _transformer(_transformer_config(document, workload), options, workload)
    family = FAMILIES[workload.family]
    options.refuse_all_but(_PLAIN, f"{workload.name}, which is no transformer")
    parameters = _parameters(document, workload, family)
    dtype = options.dtype or workload.dtype or DEFAULT_DTYPE
    batch = options.batch or workload.batch
    try:
        return [(family.builder(name=workload.name, dtype=dtype, batch=batch, **parameters), 1)]
    except ValueError as error:
        raise InputError(document.complaint(("parameters",), str(error))) from error


def _parameters(document: Document, workload: Workload, family: Family) -> dict[str, Any]:
    """The workload's parameters, typed as the family's defaults. Raises InputError with all that misfit."""
    complaints, values = [], {}
    for key, value in workload.parameters.items():
        path = ("parameters", key)
        if key not in family.parameters:
            hint = did_you_mean(key, family.parameters) or f"one of {', '.join(family.parameters)}"
            complaints.append(document.complaint(path, f"unknown parameter '{key}' of {family.name}", hint))
            continue
        default = family.parameters[key]
        found = tuple(value) if isinstance(value, list) else value
        if not _fits(found, default):
            wanted = {int: "a positive integer", float: "a positive number", str: "a string"}
            expected = wanted.get(type(default), "a list of positive integers")
            complaints.append(document.complaint(path, f"found {value!r}; expected {expected}"))
        values[key] = found
    if complaints:
        raise InputError(complaints)
    return values


def _transformer_config(document: Document, workload: Workload) -> TransformerConfig:
    """A file of ours, unlike one of Hugging Face, holds nothing that means nothing to us."""
    model_type = workload.parameters.get("model_type")
    known = known_keys(model_type) if isinstance(model_type, str) else frozenset()
    stray = [key for key in workload.parameters if known and key not in known]
    if stray:
        raise InputError(
            [
                document.complaint(
                    ("parameters", key),
                    f"unknown parameter '{key}' of {model_type}",
                    did_you_mean(key, known),
                )
                for key in stray
            ]
        )
    try:
        return TransformerConfig.from_hf(workload.parameters, workload.name)
    except InputError as error:
        found = [document.complaint(("parameters",), each.message, each.hint) for each in error.diagnostics]
        raise InputError(found) from error


def _fits(found: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(found, tuple) and all(_fits(item, default[0]) for item in found)
    if isinstance(default, str):
        return isinstance(found, str)
    number = int | float if isinstance(default, float) else int
    return isinstance(found, number) and not isinstance(found, bool) and found > 0


def _transformer(config: TransformerConfig, options: _Options, workload: Workload | None = None) -> Plan:
    """Lengths come from the options; a workload fills in those that the phase cannot do without."""
    batch = options.batch or (workload.batch if workload else 1)
    dtype = options.dtype or (workload and workload.dtype) or config.dtype or DEFAULT_DTYPE
    phase = options.phase or (workload and workload.phase) or PHASES[config.architecture][0]
    needed = required_lengths(config, phase)
    lengths: dict[str, int | None] = {}
    for key in ("seq", "kv", "new_tokens"):
        given, usual = getattr(options, key), getattr(workload, key, None)
        lengths[key] = usual if given is None and key in needed else given
    check_lengths(config, phase, lengths)
    config = config.shared_by(options.chips or 1)
    seq, kv, new_tokens = lengths["seq"], lengths["kv"], lengths["new_tokens"]
    if phase == "generate":
        plan = generate_plan(config, seq=seq, new_tokens=new_tokens or 0, batch=batch, dtype=dtype)
    else:
        plan = [(transformer_graph(config, phase=phase, batch=batch, seq=seq, kv=kv, dtype=dtype), 1)]
    if config.packing is None or options.weights is not None:
        return plan
    return [(pack_weights(graph, config.packing), count) for graph, count in plan]
