"""A study whose driver is killed again and again; run by test_store.py in a process of its own.

    python killed_drivers.py STUDY.sqlite KILLS

Every driver is a fork that tells, through a pipe, how many evaluations are stored and how many it is about to store,
before and after every `Store.add`. The parent kills it (SIGKILL) at a random moment and looks at what is there. Prints
one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

from spaces import space

from sim.explore.store import Evaluations, Store, open_store
from sim.explore.sweep import sweep
from sim.explore.workers import load_everything

NUMBERS = struct.Struct("<ii")


def drive(file: str, tell: int) -> None:
    """One driver, in this process."""
    add = Store.add

    def telling(self: Store, evaluations: Sequence[Evaluations], *others: Any) -> None:
        coming = sum(len(one.keys) for one in evaluations)
        os.write(tell, NUMBERS.pack(self.count(), coming))
        add(self, evaluations, *others)
        os.write(tell, NUMBERS.pack(self.count(), 0))

    Store.add = telling  # type: ignore[method-assign]
    sweep(space(), workers=1, out=file)
    os._exit(0)


def kill_one(file: str, rng: random.Random) -> tuple[int, int, int]:
    """Start a driver, kill it; how many evaluations it said were stored, how many it was storing, and how many are."""
    readable, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        drive(file, tell)
    os.close(tell)
    select.select([readable], [], [], 30.0)  # until the first is about to be stored
    time.sleep(rng.uniform(0.0, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    told = b""
    while chunk := os.read(readable, 4096):
        told += chunk
    os.close(readable)
    with open_store(file) as store:
        stored, coming = NUMBERS.unpack(told[-NUMBERS.size :])
        return stored, coming, store.count()


def main() -> None:
    file, kills = sys.argv[1], int(sys.argv[2])
    load_everything()
    rng = random.Random(3)
    found = [kill_one(file, rng) for _ in range(kills)]
    study = sweep(space(), workers=1, out=file)
    table = study.table.drop(columns="wall_s").sort_values("key")
    print(
        json.dumps({"kills": found, "rows": json.loads(table.to_json(orient="records", double_precision=15))})
    )


if __name__ == "__main__":
    main()
