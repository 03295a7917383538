"""What limits an operator, as far as it matters for how well it is predicted."""

from __future__ import annotations

REGIMES = ("launch", "compute", "memory")


def regime(bound_by: str, launch_s: float, latency_s: float) -> str:
    """"launch" where its launch is at least half of its time, else "compute" (array, vector unit) or "memory" (a
    link), whichever its bound is set by."""
    if launch_s > 0 and launch_s >= 0.5 * latency_s:
        return "launch"
    return "compute" if bound_by in ("array", "vector") else "memory"
