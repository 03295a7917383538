"""Whether cost stays linear: time and memory per task from 10^4 to 10^7 tasks, segments against the unrolled model.

    python benchmarks/scale.py [--inputs 1,4,40,400]

Every row is a process of its own. The program is a GEMM of 25,000 tasks per input on a chip like lepton_m without a
cache and with 16 KiB scratchpads, for more and more inputs; the baseline of every column is its first row. `map` is
partition, tile search and lowering, `events` the compiled engine, both in CPU nanoseconds per task; bytes are those of
the arrays, `peak` what the process held at most, per task above what it held before. Bars: times within 1.5 of the
first row, Program at most 72 bytes a task, Timeline 16.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

MODELS = [("llama2_7b", {"phase": "decode", "kv": 2048}), ("llama2_7b", {"phase": "prefill", "seq": 512})]

GROWING = """
import json, resource, sys, time
from dataclasses import replace
from sim.engine import run
from sim.graph.load import load_plan
from sim.hw.chip import load_chip
from sim.mapping.mapper import map_graph
def held(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
chip = load_chip("lepton_m", {"core.sram.size": "16 KiB", "core.accumulator.size": "8 KiB"})
chip = replace(chip, cache=None)
def graph(rows): return load_plan(f"gemm:{rows}x64x64", dtype="int8")[0][0]
run(map_graph(graph(64), chip), "compiled")
before = held()
g = graph(125_000)
t0 = time.process_time()
program = map_graph(g, chip, partition="data", inputs=int(sys.argv[1]))
t1 = time.process_time()
timeline = run(program, "compiled")
t2 = time.process_time()
size = sum(s.size_bytes for s in program.segments)
times = sum(s.start.nbytes + s.finish.nbytes for s in timeline.segments)
n = program.tasks
print(json.dumps([n, (t1 - t0) / n, (t2 - t1) / n, size / n, times / n, (held() - before) / n]))
"""

REPEATED = """
import json, sys, time
from sim.engine import run
from sim.graph.load import load_plan
from sim.hw.chip import load_chip
from sim.mapping.mapper import map_graph
from sim.passes import default_passes
chip, memo = load_chip("lepton_m"), {}
graph = default_passes(load_plan(sys.argv[1], dtype="int8", **json.loads(sys.argv[2]))[0][0])
run(map_graph(graph, chip, memo=memo), "compiled")
for unroll in (False, True):
    began = time.process_time()
    program = map_graph(graph, chip, memo=memo, unroll=unroll)
    mapped = time.process_time()
    ticks = run(program, "compiled").latency_ps
    built = sum(s.tasks for s in program.segments)
    print(json.dumps([built, mapped - began, time.process_time() - mapped, ticks * 1e-9]))
"""


def child(source: str, *arguments: str) -> list[list[float]]:
    command = [sys.executable, "-c", source, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost per task as programs grow")
    parser.add_argument("--inputs", default="1,4,40,400", help="back-to-back inputs, 25,000 tasks each")
    inputs = parser.parse_args().inputs.split(",")
    print(f"{'tasks':>12}{'map':>11}{'ratio':>7}{'events':>11}{'ratio':>7}{'Program':>9}{'Timeline':>9}{'peak':>9}")
    first: list[float] | None = None
    for count in inputs:
        ((tasks, mapped, simulated, size, times, peak),) = child(GROWING, count)
        first = first or [mapped, simulated]
        print(f"{tasks:>12,.0f}{mapped * 1e9:>8,.0f} ns{mapped / first[0]:>7.2f}", end="")
        print(f"{simulated * 1e9:>8,.0f} ns{simulated / first[1]:>7.2f}", end="")
        print(f"{size:>7.1f} B{times:>7.1f} B{peak:>7.0f} B", flush=True)
    print(f"\n{'model':12}{'phase':10}{'built':>10}{'map':>9}{'events':>9}{'latency':>13}")
    for model, options in MODELS:
        rows = child(REPEATED, model, json.dumps(options))
        for what, (built, mapped, simulated, latency_ms) in zip(("segments", "unrolled"), rows, strict=True):
            print(f"{model:12}{options['phase']:10}{built:>10,.0f}{mapped:>7.2f} s{simulated:>7.2f} s", end="")
            print(f"{latency_ms:>10.3f} ms  {what}", flush=True)


if __name__ == "__main__":
    main()
