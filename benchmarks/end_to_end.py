"""From a model to a report: time, tasks and memory of the main job.

    python benchmarks/end_to_end.py

Every row is a process of its own. `first` is the first library call (imports, compiled code from its cache, tile
search), `warm` the median of five more (tile searches remembered), both in CPU seconds; `process` is the wall time
of the whole `lepton simulate`. For scale, as published or measured elsewhere on other machines: ResNet-50 takes
SCALE-Sim v3 168 s and 8.8 GB on one 128 x 128 array, and ZigZag 117 CPU s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

ROWS: list[tuple[str, str, dict[str, object]]] = [
    ("resnet50", "lepton_m", {"dtype": "int8"}),
    ("resnet50", "lepton_m", {"dtype": "int8", "engine": "reference"}),
    ("gemm:4096x4096x4096", "lepton_m", {"dtype": "int8"}),
    ("llama2_7b", "lepton_m", {"dtype": "int8", "phase": "decode", "kv": 2048}),
    ("llama2_7b", "lepton_m", {"dtype": "int8", "phase": "prefill", "seq": 2048}),
    ("bert_base", "tpu_v4", {"dtype": "bf16"}),
    ("mobilenet_v2", "tpu_v1", {"dtype": "int8"}),
]

CHILD = """
import json, resource, statistics, sys, time
model, chip, options = json.loads(sys.argv[1])
began = time.process_time()
from sim.pipeline import plan, simulate
report = simulate(model, chip, **options)
first = time.process_time() - began
warm = []
for _ in range(5):
    began = time.process_time()
    simulate(model, chip, **options)
    warm.append(time.process_time() - began)
engine = options.pop("engine", None)
began = time.process_time()
plan(model, chip, **options)
planned = time.process_time() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([report["tasks"], report["latency_s"], first, statistics.median(warm), planned, peak]))
"""


def main() -> None:
    print(f"{'model':22}{'chip':10}{'engine':10}{'tasks':>9}{'latency':>11}", end="")
    print(f"{'first':>8}{'warm':>8}{'plan':>8}{'process':>9}{'peak':>9}")
    for model, chip, options in ROWS:
        child = [sys.executable, "-c", CHILD, json.dumps([model, chip, options])]
        done = subprocess.run(child, capture_output=True, text=True, check=True)
        tasks, latency_s, first, warm, planned, peak = json.loads(done.stdout)
        flags = [
            part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))
        ]
        began = time.perf_counter()
        command = [sys.executable, "-m", "sim", "simulate", model, "--chip", chip, *flags, "--format", "json"]
        subprocess.run(command, capture_output=True, check=True)
        process = time.perf_counter() - began
        engine = options.get("engine", "compiled")
        print(f"{model:22}{chip:10}{engine!s:10}{tasks:>9,}{latency_s * 1e3:>8.3f} ms", end="")
        print(f"{first:>6.2f} s{warm:>6.3f} s{planned:>6.3f} s{process:>7.2f} s{peak:>6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
