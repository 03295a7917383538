"""Every workload on every preset chip it fits: latency, distance from the bound, and the time it took to find out.

    python benchmarks/all_pairs.py

int8, which every preset computes; transformers in their default phase. CPU seconds of one library call in a process
that has already compiled the engine.
"""

from __future__ import annotations

import time

from sim.errors import DoesNotFit
from sim.graph.load import list_models
from sim.hw.chip import list_chips
from sim.pipeline import simulate


def main() -> None:
    simulate("lenet5", "tiny", dtype="int8")
    total = count = 0.0
    print(f"{'model':20}{'chip':12}{'latency':>13}{'x bound':>9}{'tasks':>11}{'CPU':>9}")
    for model in list_models():
        for chip in list_chips():
            began = time.process_time()
            try:
                report = simulate(model.name, chip, dtype="int8")
            except DoesNotFit as error:
                print(f"{model.name:20}{chip:12}  {str(error).splitlines()[0].removeprefix('error: ')}")
                continue
            spent = time.process_time() - began
            total, count = total + spent, count + 1
            latency_s, bound_s = report["latency_s"], report["bound_latency_s"]
            assert isinstance(latency_s, float)
            assert isinstance(bound_s, float)
            print(f"{model.name:20}{chip:12}{latency_s * 1e3:>10.4f} ms{latency_s / bound_s:>9.2f}", end="")
            print(f"{report['tasks']:>11,}{spent:>7.2f} s", flush=True)
    print(f"{count:.0f} pairs in {total:.0f} CPU s")


if __name__ == "__main__":
    main()
