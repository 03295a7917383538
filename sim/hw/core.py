"""Core: an array with its accumulator, a vector unit, a scratchpad and a DMA engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from typing import Annotated, Literal, get_args

from sim.config import Field, Part, Unit
from sim.errors import FieldError, InputError, KeyPath, did_you_mean
from sim.hw.calibration import UNCALIBRATED, Calibration
from sim.hw.row_stationary import RowStationary
from sim.hw.sram import Sram
from sim.hw.vector import VectorUnit
from sim.units import FASTEST_LINK, SLOWEST_LINK

Dtype = Literal["int4", "int8", "int16", "int32", "fp8", "fp16", "bf16", "tf32", "fp32", "fp64"]
DTYPE_BITS: Mapping[str, int] = {
    "int4": 4, "int8": 8, "int16": 16, "int32": 32, "fp8": 8, "fp16": 16, "bf16": 16, "tf32": 32, "fp32": 32,
    "fp64": 64,
}  # fmt: skip
Dataflow = Literal["weight_stationary", "output_stationary", "input_stationary", "row_stationary"]
Divide = Literal["always", "to_fit"]
Rate = Annotated[float, Field(gt=0, le=64)]


@dataclass(frozen=True, slots=True)
class Array(Part):
    """Array of PEs, systolic or row-stationary. It computes in the dtypes of `rates`: multiply-accumulates per PE and
    cycle. A row-stationary array is described by its block, and cannot work in another way."""

    rows: Annotated[int, Field(ge=1, le=1 << 16, description="PE rows of one array")]
    cols: Annotated[int, Field(ge=1, le=1 << 16, description="PE columns of one array")]
    rates: Annotated[
        Mapping[Dtype, Rate],
        Field(
            min_length=1,
            description=f"multiply-accumulates per PE and cycle, by element type: {', '.join(get_args(Dtype))}",
        ),
    ] = field(hash=False)
    count: Annotated[int, Field(ge=1, le=1024, description="arrays in one core")] = 1
    dataflow: Annotated[Dataflow, Field(description="which operand stays in the PEs")] = "weight_stationary"
    double_buffered_weights: Annotated[
        bool, Field(description="the next stationary tile loads behind the current one")
    ] = True
    row_stationary: Annotated[
        RowStationary | None, Field(description="what a row-stationary array is made of (no other has it)")
    ] = None

    rows_per_adder: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="rows whose products one adder sums: a wavefront crosses as many at a time",
        ),
    ] = 1
    latency_cycles: Annotated[
        int | None,
        Field(
            alias="latency",
            ge=0,
            le=10_000,
            description="from a tile's last operands to its results (tensor cores); default: a systolic array's",
        ),
    ] = None
    converted: Annotated[
        tuple[Dtype, ...],
        Field(description="element types that the vector unit unpacks first, while the array waits"),
    ] = ()

    unpacks: Annotated[
        tuple[Dtype, ...],
        Field(description="formats of packed weights that its load path unpacks; others take lanes of the vector unit"),
    ] = ()

    def __post_init__(self) -> None:
        complaints: list[tuple[KeyPath, str]] = []
        if self.rows % self.rows_per_adder:
            message = f"{self.rows} rows are no multiple of {self.rows_per_adder}"
            complaints.append((("rows_per_adder",), message))
        for i, dtype in enumerate(self.converted):
            if dtype not in self.rates:
                complaints.append((("converted", i), f"the array has no rate for '{dtype}'"))
        if (self.dataflow == "row_stationary") != (self.row_stationary is not None):
            message = "belongs to dataflow row_stationary, and to no other"
            complaints.append((("row_stationary",), message))
        elif self.row_stationary is not None:
            complaints += self._not_row_stationary()
        if complaints:
            raise FieldError(complaints)

    def _not_row_stationary(self) -> list[tuple[KeyPath, str]]:
        """What a row-stationary array cannot have."""
        complaints: list[tuple[KeyPath, str]] = []
        wide = [name for name in self.rates if DTYPE_BITS[name] != 16]
        if wide:
            message = f"row-stationary PEs hold words of 16 bits; found {', '.join(wide)}"
            complaints.append((("rates",), message))
        if self.count > 1:
            complaints.append((("count",), f"one row-stationary array per core; found {self.count}"))
        if self.rows_per_adder > 1:
            complaints.append((("rows_per_adder",), "row-stationary PEs add one by one"))
        message = "row-stationary PEs take their words as they are"
        complaints += [((key,), message) for key in ("converted", "unpacks") if getattr(self, key)]
        return complaints

    @property
    def zero_gating(self) -> bool:
        """Do PEs rest where an input is zero?"""
        return self.row_stationary is not None and self.row_stationary.zero_gating

    def rate(self, dtype: str) -> Fraction:
        """Multiply-accumulates per PE and cycle. Raises InputError on a dtype the array does not have."""
        known: Mapping[str, float] = self.rates  # type: ignore[assignment]
        if dtype not in known:
            hint = did_you_mean(dtype, known) or f"the array has {', '.join(known)}"
            raise InputError(f"the array has no rate for '{dtype}'; {hint}")
        return _fraction(known[dtype])

    @property
    def pe_count(self) -> int:
        """PEs of all arrays of one core."""
        return self.rows * self.cols * self.count


@cache
def _fraction(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(1 << 20)


@dataclass(frozen=True, slots=True)
class Accumulator(Part):
    """Memory of the partial sums of one core's arrays, in the accumulator dtype."""

    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0, description="capacity, per core")]
    bandwidth_bytes_per_s: Annotated[
        int, Unit("bandwidth"), Field(alias="bandwidth", gt=0, description="reads plus writes, per core")
    ]


@dataclass(frozen=True, slots=True)
class Dma(Part):
    """DMA engine of one core. A channel is a queue of transfers, `outstanding` of them in flight at once."""

    channels: Annotated[int, Field(ge=1, le=256, description="independent queues")]
    bandwidth_bytes_per_s: Annotated[
        int, Unit("bandwidth"), Field(alias="bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK, description="of one channel")
    ]
    setup_latency_ps: Annotated[
        int, Unit("time_ps"), Field(alias="setup_latency", ge=0, description="from issue to first request")
    ]
    outstanding: Annotated[int, Field(ge=1, le=4096, description="transfers in flight per channel")] = 1
    run_length_coding: Annotated[
        bool, Field(description="activations of 16 bits cross the DRAM as runs of zeros, where that is shorter")
    ] = False


Side = Annotated[int, Field(ge=1, le=1 << 16)]


@dataclass(frozen=True, slots=True)
class Dispatch(Part):
    """How contractions are handed to the cores of a GPU: result tiles of fixed shapes, one by one, in waves.

    Nothing stays in a scratchpad from one operator to the next: each is a kernel of its own.
    """

    tiles: Annotated[
        tuple[tuple[Side, Side], ...],
        Field(min_length=1, description="[rows, columns] of the result tiles there are kernels for"),
    ]
    depth: Annotated[
        int, Field(ge=1, le=1 << 16, description="sums are cut at multiples of this, counted in elements of 16 bits")
    ] = 64
    stages: Annotated[int, Field(ge=1, le=16, description="slots of an operand's buffer")] = 3
    lone_stages: Annotated[
        int | None,
        Field(ge=1, le=16, description="slots of a tile that its core works on alone; default: stages"),
    ] = None
    choice: Annotated[
        Literal["fastest", "largest"],
        Field(description="tile of the menu: the fastest, or the largest that a result leaves no half of empty"),
    ] = "fastest"
    least_rows: Annotated[
        int, Field(ge=1, le=1 << 16, description="of a tile that is chosen, unless the result has fewer")
    ] = 1
    split_sums: Annotated[
        bool, Field(description="sums are cut into parts where there are few tiles, for more cores")
    ] = True
    threads: Annotated[
        int, Field(ge=32, le=1 << 16, description="threads that a core holds at once, of all its blocks")
    ] = 2048
    issue: Annotated[
        int, Field(ge=1, le=1 << 12, description="threads that a core issues an instruction for in a cycle")
    ] = 128
    access_instructions: Annotated[
        float,
        Field(ge=0, le=1000, description="of vector work, per access of a thread: address, load or store, conversion"),
    ] = 0.0
    l1_bytes: Annotated[
        int,
        Unit("size"),
        Field(alias="l1", ge=0, description="a core's own cache, for rows that are read again; default: sram.size"),
    ] = 0
    instruction: Annotated[
        tuple[Side, Side, Side] | None,
        Field(
            description="[rows, columns, depth of 16 bits] of a matrix instruction, which reads its sums from registers"
            " and writes them back; default: sums stay in the array"
        ),
    ] = None
    operands: Annotated[
        Literal["registers", "scratchpad"],
        Field(description="where a matrix instruction takes its operands from"),
    ] = "registers"
    block_start_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="block_start", ge=0, description="between blocks of a row kernel that begin on a core"),
    ] = 0

    def __post_init__(self) -> None:
        if self.operands != "registers" and self.instruction is None:
            raise FieldError([(("operands",), "are those of a matrix instruction; `instruction` is missing")])

    def depth_of(self, dtype: str) -> int:
        """Elements of a sum by which a kernel's main loop goes on: as many bytes of each operand in every format, as
        CUTLASS's tiles do (128 B: 64 of fp16, 128 of int8, 32 of tf32)."""
        return max(1, self.depth * 16 // DTYPE_BITS[dtype])


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreKind(Part):
    """One kind of core and how many of it the chip has."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z_]\w*$", description="name of the kind")]
    count: Annotated[int, Field(ge=1, le=1 << 14, description="cores of this kind")]
    spare: Annotated[
        int, Field(ge=0, le=1 << 14, description="more of them on the die, switched off: what yield may cost")
    ] = 0
    clock_hz: Annotated[
        int, Unit("frequency"), Field(alias="clock", gt=0, le=10**12, description="default: the chip's clock")
    ] = 0
    array: Annotated[Array | None, Field(description="systolic array, if any")] = None
    accumulator: Annotated[Accumulator | None, Field(description="partial-sum memory, if any")] = None
    vector: Annotated[VectorUnit, Field(description="vector unit")]
    sram: Annotated[Sram, Field(description="scratchpad")]
    dma: Annotated[Dma, Field(description="DMA engine")]
    dispatch: Annotated[
        Dispatch | None, Field(description="result tiles dealt in waves (GPU), instead of even shares")
    ] = None
    divide: Annotated[
        Divide,
        Field(
            description="operators are shared by cores: always, or only where they do not fit one core's scratchpad"
        ),
    ] = "always"
    calibration: Calibration = field(
        default=UNCALIBRATED, init=False, repr=False
    )  # the chip's, filled in by it

    def __post_init__(self) -> None:
        if self.accumulator is not None and self.array is None:
            raise FieldError([(("accumulator",), "an accumulator without an array has nothing to hold")])
        if self.array is not None and self.array.latency_cycles is not None and self.dispatch is None:
            message = "belongs to cores that tiles are dealt to (dispatch); a systolic array's follows from its sides"
            raise FieldError([(("array", "latency"), message)])
        if self.dispatch is not None and (self.sram.tile_slots != 2 or self.divide != "always"):
            raise FieldError([(("dispatch",), "dealt tiles are double-buffered and go to every core")])
        if self.array is not None:
            for i, dtype in enumerate(self.array.converted):
                if dtype not in self.vector.conversions:
                    message = f"vector.conversions does not say what unpacking '{dtype}' takes"
                    raise FieldError([(("array", "converted", i), message)])
            if self.array.row_stationary is not None:
                self._check_row_stationary(self.array.row_stationary)

    def _check_row_stationary(self, rows: RowStationary) -> None:
        complaints: list[tuple[KeyPath, str]] = []
        if self.accumulator is not None:
            message = "a row-stationary array keeps its partial sums in the PEs and in sram"
            complaints.append((("accumulator",), message))
        if self.dispatch is not None:
            complaints.append((("dispatch",), "result tiles are not dealt to row-stationary arrays"))
        if self.sram.tile_slots != 2:
            complaints.append((("sram", "tile_slots"), "row-stationary tiles are double-buffered"))
        if rows.banks * rows.bank_bytes >= self.sram.size_bytes:
            message = f"{rows.banks} banks of {rows.bank_bytes} B leave nothing of sram.size for filters"
            complaints.append((("array", "row_stationary", "banks"), message))
        if complaints:
            raise FieldError(complaints)

    def peak_macs_per_s(self, dtype: str) -> float:
        """Peak of one core: PEs x rate x clock; 0 without an array. Raises InputError on an unknown dtype."""
        if self.array is None:
            return 0.0
        return _peak_macs_per_s(self.array, dtype, self.clock_hz)


@lru_cache(maxsize=1 << 12)
def _peak_macs_per_s(array: Array, dtype: str, clock_hz: int) -> float:
    return float(array.pe_count * array.rate(dtype) * clock_hz)
