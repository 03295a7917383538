"""Technology: energy, area and idle power of one process node, each number with its source.

Files of hw_configs/technology/. What a node does not state cannot be used: a missing cost is an error when
the file is read, never a silent zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict

from sim.config import Field, Part, Unit, changed_ns, data_dir, data_file, list_resources, load_yaml, validate
from sim.errors import FieldError, InputError, KeyPath, did_you_mean
from sim.hw.core import DTYPE_BITS, Dtype
from sim.hw.vector import FunctionClass

TECHNOLOGY_FOLDER = "hw_configs/technology"

DTYPES: tuple[str, ...] = get_args(Dtype)

LARGEST_MACRO_BYTES = 64 << 10
"""Larger banks are built of several macros."""

PERIPHERY_CELLS = 200
"""Decoders and amplifiers of a macro, in sides of a cell. Cells are 61 % of a macro of 64 KiB and 71 of one of 128;
CACTI has 56 and 70 (LLMCompass cost_model.py), TSMC's of 2 nm 67 (38.1 Mbit/mm2 of cells of 0.0175 um2)."""

REGISTER_BIT_TRANSISTORS = 46
"""Of one bit of a register with its share of the clock: Aladdin's 5.98 um2 at 40 nm, in logic of that node."""

REFERENCE_BITS = 64
"""Width of an access to which the stated SRAM energies belong."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A number with its source. `published`: printed by the source for this node; else `estimate`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    value: Annotated[float, Field(gt=0)]
    source: Annotated[str, Field(min_length=1)]
    status: Literal["published", "estimate"]


@dataclass(frozen=True, slots=True)
class Energy(Cost):
    """Energy of one operation, J."""

    value: Annotated[float, Unit("energy"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class EnergyPerByte(Cost):
    """J per byte."""

    value: Annotated[float, Unit("energy_per_byte"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class SramEnergy(EnergyPerByte):
    """J per byte read from one bank of `size_bytes`, 64 bit at a time."""

    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0)]


@dataclass(frozen=True, slots=True)
class WireEnergy(Cost):
    """J per bit and mm."""

    value: Annotated[float, Unit("energy_per_bit_mm"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class PowerDensity(Cost):
    """W per mm2."""

    value: Annotated[float, Unit("power_density"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class PowerPerSize(Cost):
    """W per MiB."""

    value: Annotated[float, Unit("power_per_size"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class EnergyPerArea(Cost):
    """J per mm2."""

    value: Annotated[float, Unit("energy_per_area"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Money(Cost):
    """USD."""

    value: Annotated[float, Unit("money"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Area(Cost):
    """mm2."""

    value: Annotated[float, Unit("area"), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Technology(Part):
    """Costs of one process node."""

    name: Annotated[str, Field(min_length=1, description="name of the node")]
    node_nm: Annotated[float, Field(gt=0, description="nominal feature size")]
    add: Annotated[Mapping[Dtype, Energy], Field(description="one addition, by element type")] = field(
        hash=False
    )
    mul: Annotated[Mapping[Dtype, Energy], Field(description="one multiplication")] = field(hash=False)
    register: Annotated[EnergyPerByte, Field(description="one read or write of a pipeline register")]
    register_data_share: Annotated[
        Cost, Field(description="share of `register` that its data take; clock_energy has the rest")
    ]
    sram_read: Annotated[
        tuple[SramEnergy, ...], Field(min_length=2, description="read energy by bank size, ascending")
    ]
    sram_write_over_read: Annotated[Cost, Field(description="write energy over read energy")]
    sram_width_overhead: Annotated[
        Cost, Field(description="share of an access to 64 bit that does not grow with its width")
    ]
    wire: Annotated[WireEnergy, Field(description="global wire, average data")]
    router: Annotated[EnergyPerByte, Field(description="switch and buffer of one hop")]
    instruction: Annotated[Energy, Field(description="fetch, decode and issue of one instruction")]
    logic_leakage: Annotated[PowerDensity, Field(description="leakage of everything but memories")]
    sram_leakage: Annotated[PowerPerSize, Field(description="leakage of memories")]
    clock_energy: Annotated[EnergyPerArea, Field(description="one cycle of an ungated clock, of logic")]
    pe_area: Annotated[Mapping[Dtype, Area], Field(description="one PE with its registers")] = field(
        hash=False
    )
    sram_cell: Annotated[Area, Field(description="one bit of a memory, without periphery")]
    logic_transistors_per_mm2: Annotated[Cost, Field(description="density of random logic")]
    wafer_price: Annotated[Money, Field(description="processed wafer of 300 mm")]
    defects_per_cm2: Annotated[Cost, Field(description="density of killing defects")]

    def __post_init__(self) -> None:
        complaints: list[tuple[KeyPath, str]] = []
        for key in ("add", "mul", "pe_area"):
            missing = [dtype for dtype in DTYPES if dtype not in getattr(self, key)]
            if missing:
                complaints.append(((key,), f"no cost for {', '.join(missing)}; every cost must be stated"))
        sizes = [point.size_bytes for point in self.sram_read]
        if sizes != sorted(set(sizes)):
            complaints.append((("sram_read",), "bank sizes must ascend"))
        if complaints:
            raise FieldError(complaints)

    def mac_energy_j(self, dtype: str) -> float:
        """One multiply-accumulate: a multiplication in `dtype`, an addition in its accumulator type.

        At 7 nm bf16: 0.21 + 0.38 = 0.59 pJ. Raises InputError on an unknown dtype.
        """
        return self._of("mul", dtype) + self._of("add", accumulator_dtype(dtype))

    def vector_energy_j(self, function_class: FunctionClass, dtype: str) -> float:
        """One pass of one lane. A comparison costs an addition, a move one register read and write.

        Raises InputError on an unknown class or dtype.
        """
        if function_class == "move":
            self._of("add", dtype)
            return 2 * self.register.value * DTYPE_BITS[dtype] / 8
        parts = {"add": ("add",), "compare": ("add",), "mul": ("mul",), "multiply_add": ("mul", "add")}
        if function_class not in parts:
            raise InputError(f"unknown class of element functions '{function_class}'")
        return sum(self._of(part, dtype) for part in parts[function_class])

    def register_energy_j_per_byte(self) -> float:
        """One read or write of a register, with its clock: of one that is clocked for this access alone."""
        return self.register.value

    def pipeline_energy_j_per_byte(self) -> float:
        """New data in a register that is clocked in every cycle in which its unit works.

        `clock_w` of the unit's area has the clock pins: 28 nm, 0.0497 pJ/B x 1/3 = 0.0166 pJ/B.
        """
        return self.register.value * self.register_data_share.value

    def sram_read_energy_j_per_byte(
        self, size_bytes: ArrayLike, width_bits: ArrayLike = REFERENCE_BITS
    ) -> NDArray[np.float64]:
        """Read energy of a bank of `size_bytes` that gives `width_bits` at a time. The arguments broadcast.

        By size a power law between the stated points, continued beyond them with the slope of the nearest pair. By
        width (1 + k x 64 / width) / (1 + k): decoders and word lines are paid once per access, bit lines per bit.
        """
        sizes = np.log([point.size_bytes for point in self.sram_read])
        energies = np.log([point.value for point in self.sram_read])
        wanted = np.log(np.maximum(np.asarray(size_bytes, dtype=np.float64), 1.0))
        segment = np.clip(np.searchsorted(sizes, wanted) - 1, 0, len(sizes) - 2)
        slope = np.diff(energies)[segment] / np.diff(sizes)[segment]
        at_64_bit = np.exp(energies[segment] + slope * (wanted - sizes[segment]))
        k = self.sram_width_overhead.value
        narrow = REFERENCE_BITS / np.maximum(np.asarray(width_bits, dtype=np.float64), 1.0)
        return np.asarray(at_64_bit * (1 + k * narrow) / (1 + k))

    def sram_write_energy_j_per_byte(
        self, size_bytes: ArrayLike, width_bits: ArrayLike = REFERENCE_BITS
    ) -> NDArray[np.float64]:
        """Write energy of a bank: a constant ratio to the read energy."""
        read = self.sram_read_energy_j_per_byte(size_bytes, width_bits)
        return np.asarray(read * self.sram_write_over_read.value)

    def wire_energy_j_per_byte(self, length_mm: float) -> float:
        """One byte over a wire: 8 bits x energy per bit and mm x length."""
        return 8 * self.wire.value * length_mm

    def noc_energy_j_per_byte_hop(self, hop_mm: float) -> float:
        """One byte over one hop: its wire and the router."""
        return self.wire_energy_j_per_byte(hop_mm) + self.router.value

    def leakage_w(self, logic_mm2: float, sram_bytes: float) -> float:
        """Leakage of logic by its area and of memories by their capacity."""
        return self.logic_leakage.value * logic_mm2 + self.sram_leakage.value * sram_bytes / 2**20

    def clock_w(self, logic_mm2: float, clock_hz: float) -> float:
        """Power of the clock of an area of logic where nothing gates it: energy per cycle and mm2 x area x clock."""
        return self.clock_energy.value * logic_mm2 * clock_hz

    def pe_area_mm2(self, rates: Mapping[Dtype, float]) -> float:
        """One PE that computes every dtype of `rates`.

        The types share one data path as large as the most demanding of them needs: area x rate, so that a
        rate of 1/4 needs a quarter of the unit.
        """
        return max(self.pe_area[dtype].value * rate for dtype, rate in rates.items())

    def sram_area_mm2(self, size_bytes: float, bank_bytes: float = LARGEST_MACRO_BYTES) -> float:
        """mm2 of the macros of a memory of banks of `bank_bytes`: cells, and along two sides of each square of them
        decoders and amplifiers. A bank is one macro, or several of at most 64 KiB; below some 500 B it is registers.

        64 KiB at 7 nm: 0.027 um2 x 2^19 x (1 + 200 / 724)^2 = 0.023 mm2, 61 % of it cells.
        """
        bits = 8.0 * np.minimum(bank_bytes, LARGEST_MACRO_BYTES)
        around = (1.0 + PERIPHERY_CELLS / np.sqrt(np.maximum(bits, 1.0))) ** 2
        bit_mm2 = np.minimum(self.sram_cell.value * around, self.logic_area_mm2(REGISTER_BIT_TRANSISTORS))
        return cast(float, (bit_mm2 * 8 * size_bytes)[()])

    def logic_area_mm2(self, transistors: float) -> float:
        """Area of logic given by its transistor count."""
        return transistors / self.logic_transistors_per_mm2.value

    def _of(self, table: str, dtype: str) -> float:
        costs: Mapping[str, Cost] = getattr(self, table)
        if dtype not in costs:
            raise InputError(f"unknown dtype '{dtype}'; {did_you_mean(dtype, costs) or ', '.join(costs)}")
        return float(costs[dtype].value)


def accumulator_dtype(dtype: str) -> str:
    """The type that products of `dtype` are summed in: int32, fp32, or fp64 for fp64."""
    return "int32" if dtype.startswith("int") else "fp64" if dtype == "fp64" else "fp32"


def load_technology(name: str) -> Technology:
    """A node by name, or by the path of a file. Raises InputError on an unknown name or an incomplete file."""
    return _load(name, changed_ns(name))


@lru_cache(maxsize=32)
def _load(name: str, changed_ns: int) -> Technology:
    path = data_file(TECHNOLOGY_FOLDER, name, what="technology")
    return validate(load_yaml(path, search=data_dir(TECHNOLOGY_FOLDER)), Technology)


def list_technologies() -> tuple[str, ...]:
    """Names of the nodes that come with the package."""
    return list_resources(TECHNOLOGY_FOLDER)
