"""Simulate the tables of DRAM efficiency that come with the package, and write them to hw_configs/dram/patterns.json.

`make dram-tables`, about a minute of processor time; needed after a change of a device, of the channel model or of what
`sim/hw/dram_efficiency.py` simulates. Until then a device that has no table is simulated when it is first used.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from sim.config import data_dir, list_resources
from sim.hw.chip import load_chip
from sim.hw.dram_efficiency import TABLES, simulated_table


def main() -> None:
    setups = {}
    for device in list_resources("hw_configs/dram"):
        setup = load_chip("tiny", {"dram.device": device, "dram.channels": 1}).dram.channel_setup
        for streams in (1, 4, 16):
            setups[device, streams] = replace(setup, streams=streams)
    with ProcessPoolExecutor() as pool:
        tables = list(pool.map(simulated_table, setups.values()))
    lines = [
        f'"{setup.fingerprint}": {json.dumps({"device": device, "streams": streams, "cost": table.tolist()})}'
        for ((device, streams), setup), table in zip(setups.items(), tables, strict=True)
    ]
    (data_dir("hw_configs/dram") / TABLES).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
