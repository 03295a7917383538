"""What a simulation of DRAM channels works on: the law between commands, the controllers' state, the requests.

Named tuples of numbers and arrays, so that machine code can take them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

ACTIVATE, PRECHARGE, READ, WRITE, NOTHING = 0, 1, 2, 3, 4
CLOSED, ACTIVATING = -1, -2
"""What a bank's open row is where there is none: none at all, or the second half of an activation is missing."""

NEVER = 1 << 60
BOTH_BUSES, COLUMN_BUS, ROW_BUS = 0, 1, 2


class Law(NamedTuple):
    """Organisation of a channel and least distances in clocks from the issue of one command to that of another.

    `halves` are pseudo-channels (data buses of their own), `ranks` share a data bus. A scope is what refreshes and
    activates as one: a rank, or a whole pseudo-channel where `ranks_in_scope` > 1. `_other` is to another rank of the
    same data bus, `_group` within a bank group, `_bank` within a bank, `_all` of a whole scope.
    """

    halves: int
    ranks: int
    ranks_in_scope: int
    groups: int
    banks: int
    read_read: int
    read_read_other: int
    read_read_group: int
    write_write: int
    write_write_other: int
    write_write_group: int
    read_write: int
    read_write_other: int
    write_read: int
    write_read_other: int
    write_read_group: int
    activate_activate: int
    activate_activate_group: int
    activate_activate_bank: int
    four_activates: int
    activate_read: int
    activate_write: int
    activate_precharge: int
    precharge_activate: int
    precharge_precharge: int
    read_precharge: int
    write_precharge: int
    activate_refresh: int
    precharge_refresh: int
    refresh_activate: int
    refresh_interval: int  # 0: no refresh
    read_data: int  # from the read command to the last of its data
    activate_slots: int  # clocks a command takes on its bus
    precharge_slots: int
    column_slots: int
    two_buses: int  # column and row commands go side by side
    half_clocks: int  # a clock here is half of one: commands other than precharge begin at odd clocks
    second_half_within: int  # clocks within which the second half of an activation follows; 0: in one piece
    read_keeps_sync: int  # clocks a read keeps the data clock running; 0: it always runs
    write_keeps_sync: int
    row_hits_first: int  # a row is not closed while an older request in the queue wants it
    read_queue: int
    write_queue: int
    drain_above: int  # writes in the queue that start a drain
    drain_below: int  # and that end it


class State(NamedTuple):
    """What the controllers know; the first axis of every array is the channel. Times are clocks."""

    open_row: Int64  # [banks]
    bank_at: Int64  # [banks, commands] earliest clock of a command
    group_at: Int64  # [groups, commands]
    rank_at: Int64  # [ranks, commands]
    scope_at: Int64  # [scopes, commands]; column WRITE stands for refresh
    activates: Int64  # [scopes, 4] the last four
    oldest: Int64  # [scopes] which of them is the oldest
    claimed: Int64  # [banks] requests that opened the row and are not served
    bus_at: Int64  # [row, column]
    queue: Int64  # [reads, writes; places] requests by arrival
    length: Int64  # [reads, writes]
    active: Int64  # [banks] requests whose row is open for them
    hit_at: Int64  # [banks] arrival of the oldest queued request for the open row
    # Of each channel: writes drain, active requests, scopes to refresh, next refresh, request with half an activation,
    # latest clock of its second half, when the data clock stops, request that waits for the data clock and its list.
    mode: Int64


DRAINS, ACTIVES, TO_REFRESH, REFRESH_AT, HALF_OPEN, HALF_DUE, SYNC_ENDS, SYNCING, SYNC_LIST = range(9)


class Requests(NamedTuple):
    """Requests in order of offer: where they go, and when they came (written here)."""

    channel: Int64
    bank: Int64
    row: Int64
    write: Int64
    arrival: Int64
    latency: Int64


def new_state(law: Law, channels: int) -> State:
    """Closed banks, empty queues, no command in the last tFAW."""
    ranks = law.halves * law.ranks
    groups = ranks * law.groups
    banks = groups * law.banks
    scopes = ranks // law.ranks_in_scope
    mode = np.zeros((channels, 9), np.int64)
    mode[:, [HALF_OPEN, SYNCING]] = -1
    mode[:, REFRESH_AT] = law.refresh_interval or NEVER

    def zeros(*shape: int) -> Int64:
        return np.zeros((channels, *shape), np.int64)

    return State(
        open_row=np.full((channels, banks), CLOSED),
        bank_at=zeros(banks, 4),
        group_at=zeros(groups, 4),
        rank_at=zeros(ranks, 4),
        scope_at=zeros(scopes, 4),
        activates=np.full((channels, scopes, 4), -NEVER),
        oldest=zeros(scopes),
        claimed=zeros(banks),
        bus_at=zeros(2),
        queue=zeros(2, max(law.read_queue, law.write_queue)),
        length=zeros(2),
        active=zeros(banks),
        hit_at=zeros(banks),
        mode=mode,
    )
