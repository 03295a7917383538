"""Who used an address last, against a map from bytes to users written out in Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.mapping.edges import _by_core
from sim.mapping.occupancy import Claim, Int64, Occupancy, Pairs, ports_of


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_occupancy_knows_the_last_users_of_every_byte(steps: list[tuple[int, int, bool]], cores: int) -> None:
    """Against a map from byte to users: a claim returns at least the users of its bytes, none of other bytes, and
    forgets them; a range is claimed before it is released anew."""
    ledger = Occupancy(cores)
    users_of_byte: dict[int, set[int]] = {}
    for number, (start, size, released) in enumerate(steps):
        found = ledger.claim(start, size)
        assert found.shape[0] == cores
        wanted = set().union(*(users_of_byte.pop(byte, set()) for byte in range(start, start + size)))
        for core in range(cores):
            assert set(found[core].tolist()) - {-1} == {user * cores + core for user in wanted}
        if released:
            ledger.release(start, size, np.array([[number * cores + core] for core in range(cores)]))
            for byte in range(start, start + size):
                users_of_byte[byte] = {number}


def waits(pairs: Pairs) -> list[tuple[int, int]]:
    return sorted(zip(pairs.tasks[: pairs.count].tolist(), pairs.before[: pairs.count].tolist(), strict=True))


def test_memory_is_taken_over_from_the_users_of_the_cores_that_use_it() -> None:
    """Positions 0 and 1 of the step are cores 2 and 0; two tasks fill the buffer of the first, one that of the second.
    Core 1 leaves its users to the next claim."""
    ledger, pairs = Occupancy(3), Pairs()
    ledger.release(0, 64, np.array([[7, -1, 6], [9, -1, 8], [5, 4, -1]]))
    claim = Claim("in0", np.array([0, 1]), np.array([10, 11, 12]), np.array([0, 0, 1]))
    ports = ports_of([claim], {"in0": np.array([[20, 21], [30, 31]])})
    cores, where = np.array([2, 0]), np.array([[0, 64]])
    left = ledger.claim_all(ports, where, cores, pairs)
    assert waits(pairs) == [(10, 4), (10, 5), (11, 4), (11, 5), (12, 6), (12, 7)]
    assert ledger.claim(0, 64).shape == (3, 0), "taken"
    ledger.release_all(ports, where, cores, 100, left)
    # Ids of the step begin at 100; each once, latest first.
    assert ledger.claim(0, 64).tolist() == [[131, 130], [9, 8], [121, 120]]


@pytest.mark.parametrize("seed", range(30))
def test_steps_wait_for_the_last_users_of_every_byte(seed: int) -> None:
    """Random buffers on some of the cores, step after step, in memory that begins with room for hardly any."""
    rng = np.random.default_rng(seed)
    total = int(rng.integers(1, 5))
    ledger = Occupancy(total)
    ledger.spans, (ledger.users, ledger._other) = np.empty((1, 4), np.int64), np.empty((2, 1, total), np.int64)
    last: dict[tuple[int, int], set[int]] = {}  # by byte and core
    first = 100
    for _ in range(12):
        cores = rng.permutation(total)[: rng.integers(1, total + 1)]
        cuts = np.sort(rng.choice(24, 2 * int(rng.integers(1, 5)), replace=False)).reshape(-1, 2)
        claims: list[Claim] = []
        users: dict[str, Int64] = {}
        wanted: set[tuple[int, int]] = set()
        for number, (bottom, top) in enumerate(cuts.tolist()):
            positions = np.flatnonzero(rng.random(len(cores)) < 0.7)
            tasks = np.arange(10 * number, 10 * number + len(positions))
            claims.append(Claim(f"in{number}", positions, tasks, positions))
            users[f"in{number}"] = rng.integers(0, 50, (len(cores), int(rng.integers(1, 4))))
            for task, position in zip(tasks.tolist(), positions.tolist(), strict=True):
                for byte in range(bottom, top):
                    wanted |= {(task, user) for user in last.get((byte, int(cores[position])), ())}
        ports, pairs = ports_of(claims, users), Pairs()
        where = np.column_stack([cuts[:, 0], cuts[:, 1] - cuts[:, 0]])
        left = ledger.claim_all(ports, where, cores, pairs)
        assert set(waits(pairs)) == wanted
        ledger.release_all(ports, where, cores, first, left)
        for claim, (bottom, top) in zip(claims, cuts.tolist(), strict=True):
            used = set(cores[claim.positions].tolist())
            before = [[last.get((byte, core), set()) for byte in range(bottom, top)] for core in range(total)]
            heirs = {core: set().union(*sets) for core, sets in enumerate(before)}
            for position, core in enumerate(cores.tolist()):
                mine = {first + int(user) for user in users[claim.buffer][position]}
                heirs[core] = mine | (set() if core in used else heirs[core])
            last |= {(byte, core): set(who) for byte in range(bottom, top) for core, who in heirs.items()}
        first += 50
    everything = ledger.claim(0, 24)
    for core in range(total):
        mine = set().union(*(who for (_, of), who in last.items() if of == core))
        assert set(everything[core].tolist()) - {-1} == mine


def test_pairs_broadcast_and_grow() -> None:
    pairs = Pairs(np.empty(1, np.int64), np.empty(1, np.int64))
    pairs.add(np.array([[1], [2]]), np.array([[7, 8, 9]]))
    pairs.add(np.array([5, 6]), np.array([4]))
    assert waits(pairs) == [(1, 7), (1, 8), (1, 9), (2, 7), (2, 8), (2, 9), (5, 4), (6, 4)]


def test_tasks_by_core() -> None:
    """In their order, as many columns as the busiest core has tasks: not one column for every task."""
    core, tasks = np.array([2, 0, 2, 2, 0]), np.array([10, 11, 12, 13, 14])
    assert _by_core(core, tasks, 4).tolist() == [[11, 14, -1], [-1, -1, -1], [10, 12, 13], [-1, -1, -1]]
    assert _by_core(core[:0], tasks[:0], 3).shape == (3, 0)
