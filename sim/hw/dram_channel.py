"""Banks, rows and command buses of DRAM channels under a stream of requests, clock by clock.

A controller per channel keeps rows open. It holds a queue of reads and one of writes, works on one of them (writes
gather until the high watermark and drain to the low one), and at every clock issues the command that is ready and
wanted by the oldest request (first ready, first come, first served). Whoever opened a row is served from it before the
row may close. Refresh goes before everything else: all banks of a rank close and rest. Clocks at which no command can
be ready are skipped, which changes nothing.

All machine code stands in this one file: Numba renews its cache when the file of a function changes.
"""

from __future__ import annotations

import numpy as np

from sim.hw.dram_state import (
    ACTIVATE,
    ACTIVATING,
    ACTIVES,
    BOTH_BUSES,
    CLOSED,
    COLUMN_BUS,
    DRAINS,
    HALF_DUE,
    HALF_OPEN,
    NEVER,
    NOTHING,
    PRECHARGE,
    READ,
    REFRESH_AT,
    ROW_BUS,
    SYNC_ENDS,
    SYNC_LIST,
    SYNCING,
    TO_REFRESH,
    WRITE,
    Bool,
    Int64,
    Law,
    Requests,
    State,
    new_state,
)
from sim.jit import jit


def simulate_requests(
    law: Law, channels: int, channel: Int64, bank: Int64, row: Int64, write: Bool, outstanding: int
) -> tuple[int, Int64]:
    """(clocks until everything is served, clocks from arrival to last data of every read).

    At every clock the driver offers requests in order until one is refused by a full queue or `outstanding` are in
    flight. A write is served when its command goes out. `bank` counts within the channel; latencies of writes are 0.
    """
    count = len(bank)
    requests = Requests(
        channel=np.ascontiguousarray(channel, np.int64),
        bank=np.ascontiguousarray(bank, np.int64),
        row=np.ascontiguousarray(row, np.int64),
        write=np.ascontiguousarray(write, np.int64),
        arrival=np.zeros(count, np.int64),
        latency=np.zeros(count, np.int64),
    )
    clocks = _simulate(law, new_state(law, channels), requests, min(outstanding, count))
    return int(clocks), requests.latency


@jit
def _simulate(law: Law, state: State, requests: Requests, outstanding: int) -> int:
    """The driver's loop over clocks at which something can happen. Returns the clock of the last completion."""
    count, channels = len(requests.bank), len(state.mode)
    wake = np.full(channels, NEVER)
    back = np.empty(count, np.int64)  # clocks at which reads are back, ascending
    first = last = offered = in_flight = 0
    now = 0
    while offered < count or in_flight > 0:
        while offered < count and in_flight < outstanding:
            c, kind = requests.channel[offered], requests.write[offered]
            if state.length[c, kind] == (law.write_queue if kind == 1 else law.read_queue):
                break
            state.queue[c, kind, state.length[c, kind]] = offered
            state.length[c, kind] += 1
            requests.arrival[offered] = now
            wake[c] = now + 1
            offered += 1
            in_flight += 1
        now = back[first] if first < last else NEVER
        for c in range(channels):
            now = min(now, wake[c])
        while first < last and back[first] <= now:
            first += 1
            in_flight -= 1
        for c in range(channels):
            if wake[c] <= now:
                wake[c], reads, writes = _tick(law, state, requests, c, now)
                in_flight -= writes
                for _ in range(reads):
                    back[last] = now + law.read_data
                    last += 1
    return now


@jit
def _tick(law: Law, state: State, requests: Requests, c: int, now: int) -> tuple[int, int, int]:
    """One clock of a controller: (when to look again, reads issued, writes issued)."""
    mode = state.mode[c]
    if now == mode[REFRESH_AT]:
        mode[REFRESH_AT] += law.refresh_interval
        mode[TO_REFRESH] += len(state.oldest[c])
    soonest = mode[REFRESH_AT]
    issued = served = NOTHING
    if law.two_buses == 1:
        served = issued = NOTHING
        if law.half_clocks == 0 or now % 2 == 1:
            served, at = _slot(law, state, requests, c, now, COLUMN_BUS)
            soonest = min(soonest, at)
        else:
            soonest = now + 1
        issued, at = _slot(law, state, requests, c, now, ROW_BUS)
        soonest = min(soonest, at)
    elif law.second_half_within > 0:
        served = _tick_with_halves(law, state, requests, c, now)
        soonest = min(soonest, now + 1 if served != NOTHING or mode[HALF_OPEN] >= 0 else mode[HALF_DUE])
    else:
        served, at = _slot(law, state, requests, c, now, BOTH_BUSES)
        soonest = min(soonest, at)
    if issued != NOTHING or served != NOTHING:
        soonest = now + 1
    return max(soonest, now + 1), int(served == READ), int(served == WRITE)


@jit
def _slot(law: Law, state: State, requests: Requests, c: int, now: int, bus: int) -> tuple[int, int]:
    """Choose for a command bus and issue: (command or NOTHING, if nothing then when something may be ready)."""
    found, at, place = -1, NEVER, -1
    if bus != ROW_BUS:
        found, place, at = _oldest_active(law, state, requests, c, now)
    if found >= 0:
        return _issue_active(law, state, requests, c, place, now), now
    if bus != COLUMN_BUS and state.mode[c, TO_REFRESH] > 0:
        issued, later = _refresh(law, state, c, now)
        return issued, min(at, later)
    if state.mode[c, TO_REFRESH] > 0:
        return NOTHING, at
    kind = _drain_or_not(law, state, c)
    place, command, later = _first_ready(law, state, requests, c, now, kind, bus)
    if place < 0:
        return NOTHING, min(at, later)
    return _issue_queued(law, state, requests, c, kind, place, command, now), now


@jit
def _tick_with_halves(law: Law, state: State, requests: Requests, c: int, now: int) -> int:
    """A clock where activations come in halves and the data clock is started for every burst of accesses.

    Leaves in HALF_DUE when to look again if no half activation is open.
    """
    mode = state.mode[c]
    if mode[HALF_OPEN] >= 0 and mode[HALF_DUE] <= now:
        return _second_half(state, requests, c)
    if mode[SYNCING] >= 0:
        place, kind = mode[SYNCING], mode[SYNC_LIST]
        mode[SYNCING] = -1
        if kind == 2:
            return _issue_active(law, state, requests, c, place, now)
        request = state.queue[c, kind, place]
        return _issue_queued(law, state, requests, c, kind, place, READ + requests.write[request], now)
    kind, command = 2, NOTHING
    found, place, at = _oldest_active(law, state, requests, c, now)
    if found >= 0:
        command = READ + requests.write[found]
    elif mode[TO_REFRESH] > 0:
        later = NEVER
        if mode[HALF_OPEN] < 0:
            issued, later = _refresh(law, state, c, now)
            if issued != NOTHING:
                return issued
        at = min(at, later)
    else:
        kind = _drain_or_not(law, state, c)
        place, command, later = _first_ready(law, state, requests, c, now, kind, BOTH_BUSES)
        at = min(at, later)
    if place < 0 or command == NOTHING:
        if mode[HALF_OPEN] >= 0:
            return _second_half(state, requests, c)
        mode[HALF_DUE] = at
        return NOTHING
    if command >= READ and law.read_keeps_sync > 0 and now >= mode[SYNC_ENDS]:
        if mode[HALF_OPEN] >= 0 and mode[HALF_DUE] <= now + 1:
            return _second_half(state, requests, c)
        mode[SYNCING], mode[SYNC_LIST] = place, kind
        return ACTIVATE  # the command that starts the data clock; the access follows at the next clock
    if kind == 2:
        return _issue_active(law, state, requests, c, place, now)
    return _issue_queued(law, state, requests, c, kind, place, command, now)


@jit
def _second_half(state: State, requests: Requests, c: int) -> int:
    """The rest of an activation: the row is open, for the request that wanted it first."""
    mode = state.mode[c]
    request = mode[HALF_OPEN]
    mode[HALF_OPEN] = -1
    state.open_row[c, requests.bank[request]] = requests.row[request]
    _claim(state, requests, c, request)
    return ACTIVATE


@jit
def _claim(state: State, requests: Requests, c: int, request: int) -> None:
    """The row stays open until this request is served."""
    state.claimed[c, requests.bank[request]] += 1
    state.active[c, state.mode[c, ACTIVES]] = request
    state.mode[c, ACTIVES] += 1


@jit
def _drain_or_not(law: Law, state: State, c: int) -> int:
    """Which queue is served: 1 writes, 0 reads."""
    reads, writes = state.length[c]
    if state.mode[c, DRAINS] == 0:
        if writes > law.drain_above or reads == 0:
            state.mode[c, DRAINS] = 1
    elif writes < law.drain_below and reads > 0:
        state.mode[c, DRAINS] = 0
    return int(state.mode[c, DRAINS])


@jit
def _oldest_active(law: Law, state: State, requests: Requests, c: int, now: int) -> tuple[int, int, int]:
    """(request or -1, its place, when one may be ready) among those whose row was opened for them."""
    found, place, soonest = -1, -1, NEVER
    for i in range(state.mode[c, ACTIVES]):
        request = state.active[c, i]
        at = _ready_at(law, state, c, requests.bank[request], READ + requests.write[request])
        soonest = min(soonest, at)
        if at <= now and (found < 0 or requests.arrival[request] < requests.arrival[found]):
            found, place = request, i
    return found, place, soonest


@jit
def _first_ready(
    law: Law, state: State, requests: Requests, c: int, now: int, kind: int, bus: int
) -> tuple[int, int, int]:
    """(place or -1, command, when one may be ready): the oldest queued request whose next command can go out."""
    if law.row_hits_first == 1:
        _note_hits(state, requests, c, kind)
    soonest = NEVER
    for place in range(state.length[c, kind]):
        request = state.queue[c, kind, place]
        bank = requests.bank[request]
        command = _next_command(state, c, bank, requests.row[request], kind)
        if command == NOTHING or (bus != BOTH_BUSES and (command >= READ) == (bus == ROW_BUS)):
            continue
        if command == ACTIVATE and state.mode[c, HALF_OPEN] >= 0:
            continue
        if command == PRECHARGE:
            kept = law.row_hits_first == 1 and state.hit_at[c, bank] <= requests.arrival[request]
            if kept or state.claimed[c, bank] > 0:
                continue
        at = _ready_at(law, state, c, bank, command)
        if at <= now:
            return place, command, now
        soonest = min(soonest, at)
    return -1, NOTHING, soonest


@jit
def _note_hits(state: State, requests: Requests, c: int, kind: int) -> None:
    """Arrival of the oldest request of a queue for the open row of each bank."""
    for place in range(state.length[c, kind]):
        state.hit_at[c, requests.bank[state.queue[c, kind, place]]] = NEVER
    for place in range(state.length[c, kind]):
        request = state.queue[c, kind, place]
        bank = requests.bank[request]
        if state.open_row[c, bank] == requests.row[request]:
            state.hit_at[c, bank] = min(state.hit_at[c, bank], requests.arrival[request])


@jit
def _next_command(state: State, c: int, bank: int, row: int, kind: int) -> int:
    """What a request needs next."""
    opened = state.open_row[c, bank]
    if opened == row:
        return READ + kind
    if opened == CLOSED:
        return ACTIVATE
    return NOTHING if opened == ACTIVATING else PRECHARGE


@jit
def _ready_at(law: Law, state: State, c: int, bank: int, command: int) -> int:
    """First clock at which a command to a bank breaks no distance."""
    group = bank // law.banks
    rank = group // law.groups
    at = max(state.bank_at[c, bank, command], state.group_at[c, group, command])
    if command >= READ:
        at = max(at, state.rank_at[c, rank, command], state.bus_at[c, law.two_buses])
    else:
        scope = rank // law.ranks_in_scope
        at = max(at, state.scope_at[c, scope, command], state.bus_at[c, 0])
        if command == ACTIVATE:
            at = max(at, state.activates[c, scope, state.oldest[c, scope]] + law.four_activates)
    if law.half_clocks == 1 and command != PRECHARGE and at % 2 == 0:
        at += 1
    return int(at)


@jit
def _issue_active(law: Law, state: State, requests: Requests, c: int, place: int, now: int) -> int:
    """Serve an active request."""
    request = state.active[c, place]
    state.mode[c, ACTIVES] -= 1
    for i in range(place, state.mode[c, ACTIVES]):
        state.active[c, i] = state.active[c, i + 1]
    state.claimed[c, requests.bank[request]] -= 1
    return _access(law, state, requests, c, request, now)


@jit
def _issue_queued(
    law: Law, state: State, requests: Requests, c: int, kind: int, place: int, command: int, now: int
) -> int:
    """Issue the next command of a queued request; it leaves the queue when served or when its row opens."""
    request = state.queue[c, kind, place]
    bank = requests.bank[request]
    if command == PRECHARGE:
        state.open_row[c, bank] = CLOSED
        _precharged(law, state, c, bank, now)
        return command
    state.length[c, kind] -= 1
    for i in range(place, state.length[c, kind]):
        state.queue[c, kind, i] = state.queue[c, kind, i + 1]
    if command == ACTIVATE:
        _activated(law, state, c, bank, now)
        if law.second_half_within > 0:
            state.open_row[c, bank] = ACTIVATING
            state.mode[c, HALF_OPEN], state.mode[c, HALF_DUE] = request, now + law.second_half_within
        else:
            state.open_row[c, bank] = requests.row[request]
            _claim(state, requests, c, request)
        return command
    return _access(law, state, requests, c, request, now)


@jit
def _access(law: Law, state: State, requests: Requests, c: int, request: int, now: int) -> int:
    """A read or write goes out; everything that must now wait for it does."""
    bank = requests.bank[request]
    group = bank // law.banks
    rank = group // law.groups
    half = rank // law.ranks
    at = state.rank_at[c]
    writes = requests.write[request] == 1
    for other in range(half * law.ranks, (half + 1) * law.ranks):
        same = other == rank
        if writes:
            to_read = law.write_read if same else law.write_read_other
            to_write = law.write_write if same else law.write_write_other
        else:
            to_read = law.read_read if same else law.read_read_other
            to_write = law.read_write if same else law.read_write_other
        at[other, READ] = max(at[other, READ], now + to_read)
        at[other, WRITE] = max(at[other, WRITE], now + to_write)
    by_group, by_bank = state.group_at[c, group], state.bank_at[c, bank]
    to_precharge = law.write_precharge if writes else law.read_precharge
    if writes:
        by_group[READ] = max(by_group[READ], now + law.write_read_group)
        by_group[WRITE] = now + law.write_write_group
    else:
        by_group[READ] = max(by_group[READ], now + law.read_read_group)
        requests.latency[request] = now + law.read_data - requests.arrival[request]
    by_bank[PRECHARGE] = max(by_bank[PRECHARGE], now + to_precharge)
    scope = rank // law.ranks_in_scope
    everything = state.scope_at[c, scope]
    everything[READ] = max(everything[READ], now + to_precharge)  # READ stands for precharging all
    state.bus_at[c, law.two_buses] = now + law.column_slots
    keeps = law.write_keeps_sync if writes else law.read_keeps_sync
    state.mode[c, SYNC_ENDS] = max(state.mode[c, SYNC_ENDS], now + keeps)
    return WRITE if writes else READ


@jit
def _activated(law: Law, state: State, c: int, bank: int, now: int) -> None:
    """An activation went out."""
    group = bank // law.banks
    scope = group // law.groups // law.ranks_in_scope
    by_bank, by_scope = state.bank_at[c, bank], state.scope_at[c, scope]
    by_bank[READ], by_bank[WRITE] = now + law.activate_read, now + law.activate_write
    by_bank[ACTIVATE] = max(by_bank[ACTIVATE], now + law.activate_activate_bank)
    by_bank[PRECHARGE] = max(by_bank[PRECHARGE], now + law.activate_precharge)
    state.group_at[c, group, ACTIVATE] = now + law.activate_activate_group
    by_scope[ACTIVATE] = max(by_scope[ACTIVATE], now + law.activate_activate)
    by_scope[READ] = max(by_scope[READ], now + law.activate_precharge)
    by_scope[WRITE] = max(by_scope[WRITE], now + law.activate_refresh)
    state.activates[c, scope, state.oldest[c, scope]] = now
    state.oldest[c, scope] = (state.oldest[c, scope] + 1) % 4
    state.bus_at[c, 0] = now + law.activate_slots


@jit
def _precharged(law: Law, state: State, c: int, bank: int, now: int) -> None:
    """A precharge of one bank went out."""
    scope = bank // law.banks // law.groups // law.ranks_in_scope
    by_bank, by_scope = state.bank_at[c, bank], state.scope_at[c, scope]
    by_bank[ACTIVATE] = max(by_bank[ACTIVATE], now + law.precharge_activate)
    by_scope[PRECHARGE] = now + law.precharge_precharge
    by_scope[READ] = max(by_scope[READ], now + law.precharge_precharge)
    by_scope[WRITE] = max(by_scope[WRITE], now + law.precharge_refresh)
    state.bus_at[c, 0] = now + law.precharge_slots


@jit
def _refresh(law: Law, state: State, c: int, now: int) -> tuple[int, int]:
    """Close all banks of the next scope, or refresh it: (command or NOTHING, when it may be ready)."""
    scopes = len(state.oldest[c])
    scope = scopes - (state.mode[c, TO_REFRESH] - 1) % scopes - 1
    banks = law.ranks_in_scope * law.groups * law.banks
    by_scope, opened = state.scope_at[c, scope], False
    for bank in range(scope * banks, (scope + 1) * banks):
        opened = opened or state.open_row[c, bank] != CLOSED
        if state.claimed[c, bank] > 0:
            return NOTHING, NEVER  # whoever is served last looks again at the next clock
    at = max(by_scope[READ if opened else WRITE], state.bus_at[c, 0])
    if law.half_clocks == 1 and not opened and at % 2 == 0:
        at += 1
    if at > now:
        return NOTHING, at
    state.bus_at[c, 0] = now + law.precharge_slots
    if opened:
        state.open_row[c, scope * banks : (scope + 1) * banks] = CLOSED
        by_scope[PRECHARGE] = max(by_scope[PRECHARGE], now + law.precharge_precharge)
        by_scope[WRITE] = max(by_scope[WRITE], now + law.precharge_refresh)
        return PRECHARGE, now
    by_scope[ACTIVATE] = max(by_scope[ACTIVATE], now + law.refresh_activate)
    by_scope[READ] = max(by_scope[READ], now + law.refresh_activate)
    state.mode[c, TO_REFRESH] -= 1
    return PRECHARGE, now
