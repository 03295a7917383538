"""Chip: all parts together, loaded from YAML, changed by path, written out in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from sim.config import (
    Document,
    Field,
    Part,
    Unit,
    data_dir,
    document_from_data,
    dump,
    field_specs,
    find_resource,
    is_path,
    known_keys,
    list_resources,
    load_yaml,
    validate,
)
from sim.errors import Diagnostic, FieldError, InputError, KeyPath, did_you_mean
from sim.hw.cache import Cache
from sim.hw.calibration import UNCALIBRATED, Calibration
from sim.hw.check import check_chip
from sim.hw.core import CoreKind
from sim.hw.dram import Dram, resolve_dram
from sim.hw.links import Links
from sim.hw.noc import Interconnect, Network, build_network
from sim.hw.overrides import parse_overrides, with_overrides
from sim.hw.parameters import commented_yaml, parameter_rows
from sim.hw.scalesim_cfg import SUFFIX as SCALESIM_SUFFIX
from sim.hw.scalesim_cfg import load_scalesim_cfg
from sim.units import FASTEST_LINK, SLOWEST_LINK, format_quantity

__all__ = [
    "Chip",
    "Host",
    "check_chip",
    "chip_from_dict",
    "chip_from_document",
    "chip_template",
    "list_chips",
    "load_chip",
    "parameter_table",
]

CHIP_FOLDER = "hw_configs"

NAMED_FILES = {"technology": "hw_configs/technology", "prices": "hw_configs/prices", "dram.device": "hw_configs/dram"}
"""Parameters that name a data file of a folder, or are the path of another."""

_MODEL_SUFFIXES = (".onnx", ".json", ".csv")

# A chip of one core without `interconnect:` sits on its memory: the one port is no limit beside DRAM and DMA.
_NO_INTERCONNECT = {"topology": "crossbar", "shape": [1], "link_bandwidth": "1 PB/s", "hop_latency": "0 ps"}


@dataclass(frozen=True, slots=True)
class Host(Part):
    """The link to the host that inputs come from and results go to."""

    bandwidth_bytes_per_s: Annotated[
        int, Unit("bandwidth"), Field(alias="bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK, description="one direction")
    ]
    latency_ps: Annotated[int, Unit("time_ps"), Field(alias="latency", ge=0, description="one way")]
    into: Annotated[
        Literal["memory", "scratchpad"],
        Field(description="where inputs come to and results leave from: the DRAM, or the only core's scratchpad"),
    ] = "memory"
    energy_j_per_byte: Annotated[
        float, Unit("energy_per_byte"), Field(alias="energy", gt=0, description="both ends of the link")
    ] = 40e-12  # PCIe at 5 pJ/bit: an assumption of public models, not a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip(Part):
    """An accelerator chip. Cores are numbered kind by kind; core i sits at node i of the interconnect."""

    name: Annotated[str, Field(min_length=1, description="name of the chip")]
    technology: Annotated[
        str, Field(min_length=1, description="a name that `lepton list technologies` shows, or a file")
    ]
    clock_hz: Annotated[
        int, Unit("frequency"), Field(alias="clock", gt=0, le=10**12, description="of the chip")
    ]
    cores: Annotated[tuple[CoreKind, ...], Field(min_length=1, description="kinds of cores")]
    interconnect: Annotated[Interconnect, Field(description="may be left out on a chip of one core")]
    cache: Annotated[Cache | None, Field(description="shared last-level cache, if any")] = None
    dram: Annotated[Dram, Field(description="off-chip memory: weights, and what finds no room on the chip")]
    host: Annotated[Host | None, Field(description="link to the host, if any")] = None
    links: Annotated[Links | None, Field(description="links to other chips, if any")] = None
    clock_gating: Annotated[
        float, Field(ge=0, le=1, description="share of the clock power that idle units save")
    ] = 0.9  # estimate: with it A100's constant power follows from TPU v1's, which gates nothing
    power_limit_w: Annotated[
        float | None, Unit("power"), Field(alias="power_limit", gt=0, description="of chip and DRAM, if any")
    ] = None
    calibration: Annotated[
        Calibration, Field(description="fitted on measurements; without it, the data sheet")
    ] = UNCALIBRATED
    prices: Annotated[str, Field(min_length=1, description="a name of hw_configs/prices/, or a file")] = "default"
    document: Document | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        filled_in = tuple(replace(kind, clock_hz=kind.clock_hz or self.clock_hz) for kind in self.cores)
        for kind in filled_in:
            object.__setattr__(kind, "calibration", self.calibration)
        object.__setattr__(self, "cores", filled_in)
        complaints: list[tuple[KeyPath, str]] = []
        names = [kind.name for kind in self.cores]
        for i, name in enumerate(names):
            if name in names[:i]:
                complaints.append((("cores", i, "name"), f"a second core kind named '{name}'"))
        nodes = self.interconnect.node_count
        if self.core_count > nodes:
            message = f"{nodes} nodes cannot hold {self.core_count} cores"
            complaints.append((("interconnect", "shape"), message))
        if self.host is not None and self.host.into == "scratchpad":
            complaints += self._not_beside_the_host()
        if self.cache is not None and any(kind.dma.run_length_coding for kind in self.cores):
            message = "lines of a shared cache have addresses, coded activations have none"
            complaints.append((("cache",), message))
        if self.calibration.sustained_efficiency != 1.0 and all(kind.dispatch is None for kind in self.cores):
            message = "belongs to chips that deal tiles to their cores (dispatch); array_efficiency slows every array"
            complaints.append((("calibration", "sustained_efficiency"), message))
        if self.links is not None and self.links.total_bandwidth_bytes_per_s < SLOWEST_LINK:
            found, least = (
                format_quantity(rate, "bandwidth")
                for rate in (self.links.total_bandwidth_bytes_per_s, SLOWEST_LINK)
            )
            message = f"leaves all links together {found}; expected at least {least}"
            complaints.append((("links", "efficiency"), message))
        if complaints:
            raise FieldError(complaints)

    def _not_beside_the_host(self) -> list[tuple[KeyPath, str]]:
        """Why the host cannot reach a scratchpad."""
        if self.core_count > 1:
            message = f"found scratchpad on a chip of {self.core_count} cores; expected memory (one core only has it)"
            return [(("host", "into"), message)]
        core = self.cores[0]
        if core.dispatch is not None or (core.array is not None and core.array.row_stationary is not None):
            found = "found scratchpad on a core with dispatch or row_stationary"
            message = f"{found}; expected memory (nothing stays there)"
            return [(("host", "into"), message)]
        return []

    @property
    def uses_density(self) -> bool:
        """Does any core do with fewer bytes or actions where activations are zero?"""
        gated = (kind.array is not None and kind.array.zero_gating for kind in self.cores)
        return any(gated) or any(kind.dma.run_length_coding for kind in self.cores)

    @property
    def core_count(self) -> int:
        """Cores of all kinds."""
        return sum(kind.count for kind in self.cores)

    @property
    def core_nodes(self) -> tuple[int, ...]:
        """Interconnect node of each core."""
        return tuple(range(self.core_count))

    def kind_of_core(self, core: int) -> CoreKind:
        """The kind of core number `core`. Raises IndexError outside 0..core_count-1."""
        if core >= 0:
            for kind in self.cores:
                if core < kind.count:
                    return kind
                core -= kind.count
        raise IndexError(f"the chip has {self.core_count} cores")

    def peak_macs_per_s(self, dtype: str) -> float:
        """Multiply-accumulates per second of all arrays that have `dtype`. Raises InputError if none has."""
        able = [kind for kind in self.cores if kind.array is not None and dtype in kind.array.rates]
        if not able:
            dtypes = sorted({d for kind in self.cores if kind.array for d in kind.array.rates})
            hint = did_you_mean(dtype, dtypes) or f"available: {', '.join(dtypes) or 'none'}"
            raise InputError(f"no array of '{self.name}' computes in '{dtype}'; {hint}")
        return sum(kind.count * kind.peak_macs_per_s(dtype) for kind in able)

    def network(self) -> Network:
        """The interconnect as links, with the shared ends `dram`, `cache`, `host` and `chip_links` as the last."""
        ends = [("dram", self.dram.bandwidth_bytes_per_s)]
        if self.cache is not None:
            # A bandwidth of its own: nothing else on a cache's route scales with what it achieves.
            achieved = self.cache.bandwidth_bytes_per_s * self.calibration.cache_efficiency
            ends.append(("cache", max(1, int(achieved))))
        if self.host is not None:
            ends.append(("host", self.host.bandwidth_bytes_per_s))
        if self.links is not None:
            ends.append(("chip_links", self.links.total_bandwidth_bytes_per_s))
        return build_network(self.interconnect, tuple(ends))

    def replace(self, path: str, value: object) -> Chip:
        """A new validated chip with one value changed; see `replace_many`."""
        return self.replace_many({path: value})

    def replace_many(self, values: Mapping[str, object]) -> Chip:
        """A new validated chip with values changed by their path in the YAML file.

        "core.array.rows" means the only core kind, "cores.NAME.array.rows" one of several. Quantities are
        strings with a unit. Raises InputError on an unknown path (with a suggestion) or a bad value.
        """
        base = self.document or document_from_data(self.expanded(), self.name)
        return chip_from_document(with_overrides(base, values, Chip))

    def with_calibration(self, calibration: Calibration) -> Chip:
        """The same chip with other fitted scalars; `UNCALIBRATED` is its data sheet."""
        return replace(self, calibration=calibration)

    def expanded(self) -> dict[str, Any]:
        """The whole configuration as YAML data with every default written out.

        chip_from_dict(chip.expanded()) == chip.
        """
        data = {"version": 1, **dump(self)}
        dram = self.dram
        if dram.bandwidth_bytes_per_s == dram.channels * dram.channel_bandwidth_bytes_per_s:
            del data["dram"]["bandwidth"]  # so that a later change of the channels changes it
        if dram.latency_ps == dram.unloaded_latency_ps:
            del data["dram"]["latency"]  # likewise
        for core in data["cores"]:
            if core["clock"] == data["clock"]:
                del core["clock"]  # likewise
        if self.calibration == UNCALIBRATED:
            del data["calibration"]
        return data

    def summary_text(self) -> str:
        """A few lines with the numbers one compares chips by."""
        rows = [
            ("cores", ", ".join(f"{kind.count} x {kind.name}" for kind in self.cores)),
            ("peak", ", ".join(self._peaks())),
            ("SRAM", format_quantity(sum(k.count * k.sram.size_bytes for k in self.cores), "size")),
            ("DRAM", f"{self.dram.device}, {format_quantity(self.dram.capacity_bytes, 'size')}, "
                     f"{format_quantity(self.dram.bandwidth_bytes_per_s, 'bandwidth')}"),
        ]  # fmt: skip
        head = f"{self.name}: {Path(self.technology).stem}, {format_quantity(self.clock_hz, 'frequency')}"
        return "\n".join([head, *(f"  {name:<6} {text}" for name, text in rows)])

    def _peaks(self) -> Iterator[str]:
        for dtype in sorted({d for kind in self.cores if kind.array for d in kind.array.rates}):
            unit = "TOP/s" if dtype.startswith("int") else "TFLOP/s"
            yield f"{2 * self.peak_macs_per_s(dtype) / 1e12:.4g} {unit} {dtype}"


def load_chip(name_or_path: str | Path, overrides: Mapping[str, object] | Iterable[str] = ()) -> Chip:
    """A chip by name (hw_configs/), or by the path of a YAML file or of a SCALE-Sim configuration (.cfg).

    `overrides` is a mapping {path: value} or strings "path=value". Raises InputError with all complaints.
    """
    path = _chip_path(name_or_path)
    if path.suffix.lower() == SCALESIM_SUFFIX:
        document = load_scalesim_cfg(path)
    else:
        document = load_yaml(path, search=data_dir(CHIP_FOLDER))
    values = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    return chip_from_document(with_overrides(document, values, Chip))


def list_chips() -> tuple[str, ...]:
    """Names of the chips that come with the package."""
    return list_resources(CHIP_FOLDER)


def chip_from_dict(data: Mapping[str, Any]) -> Chip:
    """A chip from YAML-shaped data. Raises InputError."""
    return chip_from_document(document_from_data(data))


def chip_from_document(document: Document) -> Chip:
    """A chip from a loaded document; defaults that depend on other blocks are filled in first.

    Raises InputError with all complaints.
    """
    whole = with_own_files(document.data, lambda key, name: document.absolute(tuple(key.split(".")), name))
    document = document.with_data(whole)
    data = dict(document.data)
    complaints: list[Diagnostic] = []
    try:
        if isinstance(data.get("dram"), dict):
            data["dram"] = resolve_dram(document)
    except InputError as error:
        complaints += error.diagnostics
        data["dram"] = {key: value for key, value in data["dram"].items() if key != "stacks"}
    complaints += _named_files(document)
    complaints += _misnamed_cores(document)
    cores = data.get("cores")
    if "interconnect" not in data and isinstance(cores, list) and [_count(core) for core in cores] == [1]:
        data["interconnect"] = _NO_INTERCONNECT
    chip = validate(document.with_data(data), Chip, complaints)
    object.__setattr__(chip, "document", document)
    return chip


def parameter_table() -> tuple[dict[str, str], ...]:
    """One row per parameter of a chip file: path, unit, default, meaning."""
    of_chip = {"name", "source", "notes", "device", "channels", "capacity", "bandwidth", "latency"}
    of_chip |= {"interleave", "streams", "mapper", "scheduler"}
    filled_in = {f"dram.{key}": "of the device" for key in known_keys(Dram, ()) if key not in of_chip}
    filled_in |= {f"dram.timing.{key}": "of the device" for key in known_keys(Dram, ("timing",))}
    return tuple(parameter_rows(Chip, filled_in | {"core.clock": "the chip's clock"}))


def chip_template() -> str:
    """A commented chip file to start from; it loads as it is."""
    example = load_chip("lepton_s").expanded()
    example["name"] = "my_chip"
    del example["cores"][0]["vector"]["functions"], example["notes"]
    example["dram"] = {key: example["dram"][key] for key in ("device", "channels", "capacity")}
    head = "# A chip. Quantities are strings with a unit: kB = 1000 B, KiB = 1024 B, always.\n"
    return head + commented_yaml(example, Chip)


def _chip_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if not str(name_or_path).strip():
        raise InputError(Diagnostic("the name of the chip is empty", hint="`lepton list chips` shows names"))
    if path.suffix in _MODEL_SUFFIXES:
        hint = "a chip is a .yaml file, a SCALE-Sim .cfg, or a name that `lepton list chips` shows"
        raise InputError(Diagnostic(f"'{path}' is a model file, not a chip", hint=hint))
    if path.suffix.lower() in (".yaml", ".yml", SCALESIM_SUFFIX) or len(path.parts) > 1:
        return path
    return find_resource(CHIP_FOLDER, str(name_or_path), what="chip")


def with_own_files(data: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """A chip's data with every file that is told by its path changed to `change(parameter, path of the file)`."""
    changed = dict(data)
    for parameter in NAMED_FILES:
        *blocks, key = parameter.split(".")
        block = changed.get(blocks[0]) if blocks else changed
        name = block.get(key) if isinstance(block, Mapping) else None
        if isinstance(name, str) and is_path(name):
            other = {key: change(parameter, name)}
            changed |= {blocks[0]: {**block, **other}} if isinstance(block, Mapping) and blocks else other
    return changed


def _named_files(document: Document) -> list[Diagnostic]:
    """What is wrong with the technology and the price list that the chip names."""
    from sim.hw.money import load_prices
    from sim.hw.technology import load_technology

    complaints: list[Diagnostic] = []
    named: dict[str, Callable[[str], object]] = {"technology": load_technology, "prices": load_prices}
    for key, load in named.items():
        name = document.data.get(key)
        try:
            if isinstance(name, str):
                load(name)
        except InputError as error:
            complaints += [
                one if one.line is not None else document.complaint((key,), one.message, one.hint)
                for one in error.diagnostics
            ]
    return complaints


def _misnamed_cores(document: Document) -> list[Diagnostic]:
    """Incomplete core kinds of a file with a parent, named almost as one that is complete."""
    cores = document.data.get("cores")
    inherits = any(at.file != document.name for at in document.positions.values())
    if not inherits or not isinstance(cores, list) or not all(isinstance(core, dict) for core in cores):
        return []
    required = {spec.key for spec in field_specs(CoreKind) if spec.default is MISSING}
    whole = [str(core["name"]) for core in cores if required <= core.keys()]
    found = []
    for i, core in enumerate(cores):
        name = str(core.get("name"))
        hint = "" if required <= core.keys() else did_you_mean(name, whole)
        if hint:
            found.append(document.complaint(("cores", i), f"the parent has no core kind '{name}'", hint))
    return found


def _count(core: object) -> object:
    return core.get("count") if isinstance(core, dict) else None
