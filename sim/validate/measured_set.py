"""Sets of measurements that were timed on the host's clock, or on a board that ran otherwise than the chip file says.

A set is a file of hw_configs/measured: what a call of each family costs on the host, and, where its board ran at
another operating point (clocks, power limit), the calibration of that board. Both belong to the measurement, not to
the chip: a report of the chip knows nothing of them. So does what a cache held when a kernel began (`in_sequence`),
and what was really timed under the name of an operator (`operators`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from sim.config import Field, Part, Unit, data_dir, list_resources, load_yaml, validate
from sim.hw.calibration import Calibration
from sim.units import PS_PER_S
from sim.validate.measurement import Measurement, chip_key

SET_FOLDER = "hw_configs/measured"

WITH_HOST = "host_wall_incl_launch"
"""Rows timed so contain the host's call; others of the same set had it taken off."""

Family = Literal["matmul", "softmax", "norm", "unary", "binary", "gated"]


@dataclass(frozen=True, slots=True)
class HostCall(Part):
    """One call as the host's clock sees it: the device begins after `before_ps`; from then on the host has work of its
    own for `after_ps`, and only after that does it look whether the device is done."""

    before_ps: Annotated[
        int, Unit("time_ps"), Field(alias="before", ge=0, description="from the call until the device begins")
    ]
    after_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="after", ge=0, description="the host's own work beside the device, before it waits"),
    ] = 0

    def wall_s(self, device_s: float) -> float:
        """Seconds on the host's clock: before + max(device, after). 10 us and 4 us: 14 us for a kernel of 1 us, 19 us
        for one of 9 us."""
        return self.before_ps / PS_PER_S + max(device_s, self.after_ps / PS_PER_S)


@dataclass(frozen=True, slots=True)
class Board(Part):
    """A chip in a set: its host calls by family, and the calibration of that board (None: the chip file's)."""

    chip: Annotated[str, Field(min_length=1, description="name of the chip file")]
    calls: Annotated[Mapping[Family, HostCall], Field(description="cost of a call on the host, by family")]
    calibration: Annotated[
        Calibration | None, Field(description="of this board, instead of the chip file's")
    ] = None


@dataclass(frozen=True, slots=True)
class MeasuredOperator(Part):
    """What rows of a set really timed, where their `op` does not say it: another function, or several kernels."""

    dataset: Annotated[str, Field(min_length=1, description="what `dataset` of its rows begins with")]
    op: Annotated[str, Field(min_length=1, description="operator in its rows")]
    function: Annotated[str | None, Field(description="what was computed, if another than `op`")] = None
    kernels: Annotated[int, Field(ge=1, description="one after another, each as large as the row says")] = 1


@dataclass(frozen=True, slots=True)
class MeasuredSet(Part):
    """A set by its name, which the `dataset` of its rows begins with."""

    name: Annotated[str, Field(min_length=1, description="what `dataset` of its rows begins with")]
    boards: Annotated[
        tuple[Board, ...], Field(description="chips with calls of the host, or a calibration, of their own")
    ] = ()
    operators: Annotated[
        tuple[MeasuredOperator, ...], Field(description="rows whose operator was another, or several")
    ] = ()
    in_sequence: Annotated[
        bool, Field(description="kernels timed one after another: what the one before wrote is in the cache")
    ] = False

    def board(self, chip: str) -> Board | None:
        """The board with a chip, whatever way its name is written."""
        return next((one for one in self.boards if chip_key(one.chip) == chip_key(chip)), None)


@cache
def measured_sets() -> tuple[MeasuredSet, ...]:
    """All sets that come with the package. Raises InputError on a file that is none."""
    folder = data_dir(SET_FOLDER)
    return tuple(
        validate(load_yaml(folder / f"{name}.yaml"), MeasuredSet) for name in list_resources(SET_FOLDER)
    )


def set_of(row: Measurement) -> MeasuredSet | None:
    """The set a row belongs to; None for one of no set: it was timed on the device, on the chip as its file says."""
    return next((one for one in measured_sets() if row.dataset.startswith(one.name)), None)


def in_sequence(row: Measurement) -> bool:
    """Was a row timed behind the kernel that wrote its operand?"""
    found = set_of(row)
    return found is not None and found.in_sequence


def timed_as(row: Measurement) -> tuple[str, int]:
    """(function that a row timed, its kernels): `op` and one, unless its set says otherwise."""
    found = set_of(row)
    for one in () if found is None else found.operators:
        if one.op == row.op and row.dataset.startswith(one.dataset):
            return one.function or row.op, one.kernels
    return row.op, 1


def board_calibration(found: MeasuredSet | None, chip: str, own: Calibration) -> Calibration:
    """The calibration for rows of a set: the board's, else `own`."""
    board = None if found is None else found.board(chip)
    return own if board is None or board.calibration is None else board.calibration


def host_call(row: Measurement) -> HostCall | None:
    """What the host adds to a row; None where nothing is in it. Raises KeyError where something is and is not known."""
    if row.timing != WITH_HOST:
        return None
    found = set_of(row)
    board = None if found is None else found.board(row.chip)
    if board is None:
        raise KeyError(f"no host call is known for {row.dataset} on {row.chip}")
    calls: Mapping[str | None, HostCall] = dict(board.calls.items())
    if row.family not in calls:
        raise KeyError(f"no host call of {row.family} is known for {row.dataset} on {row.chip}")
    return calls[row.family]
