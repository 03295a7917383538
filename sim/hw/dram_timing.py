"""Timing of a DRAM device: its organisation and JEDEC parameters, and what follows from them.

Parameters keep their JEDEC symbols as keys and count clocks of the command bus. A derived distance between two
commands stands in a function below with its formula, as the standards give it (JESD79-4, JESD79-5, JESD209-5,
JESD235, JESD238, JESD250).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sim.config import Field, Part, Unit
from sim.errors import FieldError

if TYPE_CHECKING:
    from sim.hw.dram_state import Law

Mapper = Literal["row_bank_column", "bank_row_column", "bank_interleaved_xor"]
Scheduler = Literal["first_ready", "first_ready_row_hits"]

DRAIN_ABOVE, DRAIN_BELOW = 0.8, 0.2
"""Writes drain when they fill more than the first share of their queue, until they fill less than the second."""


def _symbol(symbol: str, meaning: str) -> Any:
    return Field(alias=symbol, ge=0, le=1 << 20, description=f"{meaning}, clocks")


@dataclass(frozen=True, slots=True)
class DramTiming(Part):
    """Organisation and timing of one channel of a device."""

    clock_ps: Annotated[int, Unit("time_ps"), Field(alias="clock", gt=0, description="period of a clock")]
    rows: Annotated[int, Field(ge=1, le=1 << 24, description="rows of a bank")]
    groups: Annotated[int, Field(ge=1, le=64, description="bank groups of a rank")]
    banks: Annotated[int, Field(ge=1, le=64, description="banks of a group")]
    burst_clocks: Annotated[int, _symbol("BL", "data bus taken by one burst")]
    cl_clocks: Annotated[int, _symbol("CL", "read command to first data")]
    cwl_clocks: Annotated[int, _symbol("CWL", "write command to first data")]
    rcd_clocks: Annotated[int, _symbol("RCD", "activate to read")]
    rp_clocks: Annotated[int, _symbol("RP", "precharge to activate")]
    ras_clocks: Annotated[int, _symbol("RAS", "activate to precharge")]
    rc_clocks: Annotated[int, _symbol("RC", "activate to activate of a bank")]
    rtp_clocks: Annotated[int, _symbol("RTP", "read to precharge")]
    wr_clocks: Annotated[int, _symbol("WR", "last data written to precharge")]
    ccd_s_clocks: Annotated[int, _symbol("CCD_S", "access to access")]
    ccd_l_clocks: Annotated[int, _symbol("CCD_L", "the same within a bank group")]
    rrd_s_clocks: Annotated[int, _symbol("RRD_S", "activate to activate")]
    rrd_l_clocks: Annotated[int, _symbol("RRD_L", "the same within a bank group")]
    faw_clocks: Annotated[int, _symbol("FAW", "window of at most four activates")]
    wtr_s_clocks: Annotated[int, _symbol("WTR_S", "last data written to read")]
    wtr_l_clocks: Annotated[int, _symbol("WTR_L", "the same within a bank group")]
    rfc_clocks: Annotated[int, _symbol("RFC", "refresh of all banks")]
    refi_clocks: Annotated[int, _symbol("REFI", "refresh to refresh (0: never)")]
    pseudo_channels: Annotated[int, Field(ge=1, le=2, description="data buses of a channel")] = 1
    ranks: Annotated[int, Field(ge=1, le=16, description="ranks, or stack ids, on a data bus")] = 1
    stacked: Annotated[bool, Field(description="ranks are stack ids: refresh and activate as one")] = False
    rcd_write_clocks: Annotated[int, _symbol("RCDWR", "activate to write (0: RCD)")] = 0
    ccd_l_write_clocks: Annotated[int, _symbol("CCD_L_WR", "write to write in a bank group (0: CCD_L)")] = 0
    ccd_r_clocks: Annotated[int, _symbol("CCD_R", "access to access of another stack id")] = 0
    rtw_clocks: Annotated[int, _symbol("RTW", "read to write (0: CL + BL + 2 - CWL)")] = 0
    cs_clocks: Annotated[int, _symbol("CS", "data bus idle between ranks")] = 2
    ppd_clocks: Annotated[int, _symbol("PPD", "precharge to precharge")] = 0
    data_clocks: Annotated[int, _symbol("BL_max", "first to last data of a burst (0: BL)")] = 0
    aad_clocks: Annotated[int, _symbol("AAD", "longest activate-1 to activate-2 (0: in one piece)")] = 0
    wck_clocks: Annotated[int, _symbol("WCKPST", "data clock after a burst (0: always runs)")] = 0
    activate_slots: Annotated[int, Field(ge=1, le=4, description="clocks of an activate command")] = 1
    column_slots: Annotated[int, Field(ge=1, le=4, description="clocks of a read or write command")] = 1
    command_buses: Annotated[int, Field(ge=1, le=2, description="2: row and column commands apart")] = 1
    half_clocks: Annotated[bool, Field(description="a clock here is half a clock of the device")] = False
    read_queue: Annotated[int, Field(ge=1, le=1024, description="reads a controller chooses from")] = 32
    write_queue: Annotated[int, Field(ge=1, le=1024, description="writes it gathers")] = 32

    def __post_init__(self) -> None:
        complaints = []
        for name in ("rows", "groups", "banks", "ranks"):
            value = getattr(self, name)
            if value & (value - 1):
                complaints.append(((name,), f"found {value}; address bits need a power of two"))
        if self.refi_clocks and self.refi_clocks <= self.scopes * (self.rfc_clocks + self.rc_clocks):
            complaints.append((("REFI",), f"found {self.refi_clocks}; refresh (RFC) would take all the time"))
        if not self.burst_clocks:
            complaints.append((("BL",), "found 0; a burst takes at least one clock"))
        if self.stacked and not self.ccd_r_clocks:
            complaints.append((("CCD_R",), "required where ranks are stack ids"))
        if complaints:
            raise FieldError(complaints)

    @property
    def scopes(self) -> int:
        """Parts of a channel that refresh and activate as one: ranks, or whole pseudo-channels of stack ids."""
        return self.pseudo_channels * (1 if self.stacked else self.ranks)

    @property
    def bank_count(self) -> int:
        """Banks of a channel."""
        return self.pseudo_channels * self.ranks * self.groups * self.banks

    @property
    def unloaded_read_clocks(self) -> int:
        """Closed bank to last data: activate, read, data. The least that a random read takes."""
        return self.rcd_clocks + self.activate_slots - self.column_slots + self.read_clocks

    @property
    def read_clocks(self) -> int:
        """Read command to last data: CL + BL."""
        return self.cl_clocks + (self.data_clocks or self.burst_clocks)


def law(timing: DramTiming, *, scheduler: Scheduler, refresh: bool = True) -> Law:
    """All distances between commands. A distance counts between the ends of commands, a command is issued at its
    first clock: hence the offsets of commands that take several clocks."""
    from sim.hw.dram_state import Law

    t = timing
    activate, column = t.activate_slots - 1, t.column_slots - 1
    access = max(t.ccd_s_clocks, t.burst_clocks)
    written = t.cwl_clocks + t.burst_clocks
    read_write = t.rtw_clocks or t.cl_clocks + t.burst_clocks + 2 - t.cwl_clocks
    other_access = max(t.ccd_r_clocks, t.burst_clocks) if t.stacked else t.burst_clocks + t.cs_clocks
    return Law(
        halves=t.pseudo_channels,
        ranks=t.ranks,
        ranks_in_scope=t.ranks if t.stacked else 1,
        groups=t.groups,
        banks=t.banks,
        read_read=access,
        read_read_other=other_access,
        read_read_group=t.ccd_l_clocks,
        write_write=access,
        write_write_other=other_access if t.stacked else t.burst_clocks,
        write_write_group=t.ccd_l_write_clocks or t.ccd_l_clocks,
        read_write=read_write,
        read_write_other=read_write if t.stacked else other_access,
        write_read=written + t.wtr_s_clocks,
        write_read_other=written + (t.wtr_s_clocks if t.stacked else t.cs_clocks - t.cl_clocks),
        write_read_group=written + t.wtr_l_clocks,
        activate_activate=t.rrd_s_clocks,
        activate_activate_group=t.rrd_l_clocks,
        activate_activate_bank=t.rc_clocks,
        four_activates=t.faw_clocks,
        activate_read=t.rcd_clocks + activate - column,
        activate_write=(t.rcd_write_clocks or t.rcd_clocks) + activate - column,
        activate_precharge=t.ras_clocks + activate,
        precharge_activate=t.rp_clocks - activate,
        precharge_precharge=t.ppd_clocks,
        read_precharge=t.rtp_clocks + column,
        write_precharge=written + t.wr_clocks + column,
        activate_refresh=t.rc_clocks + activate,
        precharge_refresh=t.rp_clocks,
        refresh_activate=t.rfc_clocks - activate,
        refresh_interval=t.refi_clocks if refresh else 0,
        read_data=t.read_clocks,
        activate_slots=t.activate_slots,
        precharge_slots=1,
        column_slots=t.column_slots,
        two_buses=int(t.command_buses == 2),
        half_clocks=int(t.half_clocks),
        second_half_within=t.aad_clocks,
        read_keeps_sync=t.cl_clocks + t.burst_clocks + t.wck_clocks if t.wck_clocks else 0,
        write_keeps_sync=t.cwl_clocks + t.burst_clocks + t.wck_clocks if t.wck_clocks else 0,
        row_hits_first=int(scheduler == "first_ready_row_hits"),
        read_queue=t.read_queue,
        write_queue=t.write_queue,
        drain_above=math.floor(t.write_queue * DRAIN_ABOVE),
        drain_below=math.ceil(t.write_queue * DRAIN_BELOW),
    )
