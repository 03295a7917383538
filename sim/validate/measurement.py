"""Measured times of single operators, read from CSV.

Columns: chip, op, dtype, measured_us, and the shape: M, N, K and batch of a matrix product, or `shape` (32x128x512),
or `elements`, with `n_devices` of a sum over chips. `regime` or `timing` says how it was timed, `dataset` and `source`
where it comes from. Other columns are passed over; a file without the first four holds no times of operators and is
passed over whole.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.config import data_dir
from sim.errors import InputError

REQUIRED = ("chip", "op", "dtype", "measured_us")
FAMILIES: Mapping[str, str] = {
    "matmul": "matmul",
    "q_mul_k_bmm": "matmul",
    "a_mul_v_bmm": "matmul",
    "wo_proj_matmul": "matmul",
    "softmax": "softmax",
    "layernorm": "norm",
    "rmsnorm": "norm",
    "relu": "unary",
    "gelu": "unary",
    "tanh": "unary",
    "sigmoid": "unary",
    "elu": "unary",
    "selu": "unary",
    "leaky_relu": "unary",
    "parametric_relu": "unary",
    "binary_step": "unary",
    "linear": "unary",
    "add": "binary",
    "mul": "binary",
    "silu_mul": "gated",
    "hbm_to_onchip_copy": "copy",
    "allreduce": "all_reduce",
    "all_reduce": "all_reduce",
}
"""Measured operators by the family that errors are told for; other operators are not compared."""

_DTYPES = {"f16": "fp16", "f32": "fp32", "float16": "fp16", "float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One operator, timed. `shape` is (M, N, K) or (batch, M, N, K) of a matrix product, (chips, elements) of a
    sum over chips, else that of the tensor; of an operator that is not compared it may be empty."""

    chip: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    measured_s: float
    timing: str
    dataset: str
    source: str

    @property
    def family(self) -> str | None:
        """The kind of operator that errors are told for; None for one that is not compared."""
        return FAMILIES.get(self.op)

    @property
    def case(self) -> tuple[str, tuple[int, ...], str]:
        """What is simulated: rows with the same case share one prediction."""
        return self.op, self.shape, self.dtype

    @property
    def fold(self) -> int:
        """0 or 1, by a hash of the case: a half to fit on and a half to judge by, the same on every machine."""
        return hashlib.sha256(repr(self.case).encode()).digest()[0] % 2


def evenly(rows: Sequence[Measurement], count: int) -> list[Measurement]:
    """Up to `count` cases of each family, evenly over the measured times: what does for a look where all rows would
    take long."""
    chosen: list[Measurement] = []
    for name in dict.fromkeys(row.family for row in rows if row.family is not None):
        mine = sorted(
            {row.case: row for row in rows if row.family == name}.values(), key=lambda row: row.measured_s
        )
        last, take = len(mine) - 1, min(count, len(mine))
        places = sorted({at * last // max(1, take - 1) for at in range(take)})
        chosen += [mine[place] for place in places]
    return chosen


def chip_key(name: str) -> str:
    """Names that mean the same chip: TPUv4, tpu_v4 and tpu-v4 are tpuv4."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def load_measurements(folder: str | Path | None = None) -> list[Measurement]:
    """All rows of the CSV files in `folder`, or of those that come with the package (hw_configs/measured).

    Raises InputError with the line: no such folder, no file with the columns, a time or shape that is none.
    """
    path = data_dir("hw_configs") / "measured" if folder is None else Path(folder)
    if folder is None and not path.is_dir():
        return []
    if not path.is_dir():
        raise InputError(f"{path}: found no such folder; expected one with CSV files of measurements")
    rows: list[Measurement] = []
    files = sorted(path.glob("*.csv"))
    for file in files:
        rows += _rows(file)
    if not rows:
        columns = ", ".join(REQUIRED)
        raise InputError(f"{path}: found {len(files)} CSV files, none with the columns {columns}")
    return rows


def _rows(file: Path) -> Iterator[Measurement]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if not set(REQUIRED) <= set(reader.fieldnames or ()):
                return
            for line, row in enumerate(reader, start=2):
                yield _measurement(row, f"{file}:{line}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error


def _measurement(row: Mapping[str, str | None], where: str) -> Measurement:
    cells = {key: value or "" for key, value in row.items() if isinstance(value, str)}
    microseconds = _positive(cells, "measured_us", where)
    dtype = cells["dtype"]
    return Measurement(
        chip=cells["chip"],
        op=cells["op"],
        shape=_shape(cells, where),
        dtype=_DTYPES.get(dtype, dtype),
        measured_s=microseconds * 1e-6,
        timing=cells.get("regime") or cells.get("timing") or "",
        dataset=cells.get("dataset", ""),
        source=cells.get("source", ""),
    )


def _shape(cells: Mapping[str, str], where: str) -> tuple[int, ...]:
    if FAMILIES.get(cells.get("op", "")) == "all_reduce":
        return _extent(cells, "n_devices", where), _extent(cells, "elements", where)
    matrix = [name for name in ("M", "N", "K") if cells.get(name)]
    batch = _extent(cells, "batch", where) if cells.get("batch") else 1
    if len(matrix) == 3:
        sizes = tuple(_extent(cells, name, where) for name in matrix)
        return sizes if batch == 1 else (batch, *sizes)
    if cells.get("shape") and re.fullmatch(r"[0-9]+(x[0-9]+)*", cells["shape"]):
        return tuple(int(size) for size in cells["shape"].split("x"))
    if matrix:
        return tuple(_extent(cells, name, where) for name in matrix)
    if cells.get("op") not in FAMILIES:
        return ()
    return (_extent(cells, "elements", where),)


def _extent(cells: Mapping[str, str], name: str, where: str) -> int:
    value = _positive(cells, name, where)
    if value != int(value):
        raise InputError(f"{where}: {name}: found {cells[name]}; expected a whole number")
    return int(value)


def _positive(cells: Mapping[str, str], name: str, where: str) -> float:
    text = cells.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{where}: {name}: found {text!r}; expected a positive number")
    return value


def of_chip(rows: Sequence[Measurement], chip: str) -> list[Measurement]:
    """The rows measured on `chip`, whatever way its name is written."""
    return [row for row in rows if chip_key(row.chip) == chip_key(chip)]
