"""A study whose driver is killed again and again; run by test_store.py in a process of its own.

    python killed_drivers.py STUDY.sqlite KILLS

Every driver is a fork that tells, through a pipe, how many evaluations are stored whenever `Store.add` has returned.
The parent kills it (SIGKILL) at a random moment, and checks that what was told is there. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from typing import Any

from spaces import space

from sim.explore.store import Store, open_store
from sim.explore.sweep import sweep
from sim.explore.workers import load_everything


def drive(file: str, tell: int) -> None:
    """One driver, in this process."""
    add = Store.add

    def telling(self: Store, *arguments: Any) -> None:
        add(self, *arguments)
        os.write(tell, self.count().to_bytes(4, "little"))

    Store.add = telling  # type: ignore[method-assign]
    sweep(space(), workers=1, out=file)
    os._exit(0)


def kill_one(file: str, rng: random.Random) -> tuple[int, int]:
    """Start a driver, kill it; how many evaluations it said were stored, and how many are."""
    readable, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        drive(file, tell)
    os.close(tell)
    select.select([readable], [], [], 30.0)  # until the first is stored
    time.sleep(rng.uniform(0.0, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    told = b""
    while chunk := os.read(readable, 4096):
        told += chunk
    os.close(readable)
    with open_store(file) as store:
        return int.from_bytes(told[-4:], "little"), store.count()


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
