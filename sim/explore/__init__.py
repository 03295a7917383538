"""Design-space exploration: a space of chips, a sampler, workers, a store, and the study they make.

Files, in the order of use: `values` and `space` (what is varied), `metrics` (what is asked of it), `samplers` (which
points), `evaluate` (a point to numbers), `workers` and `cluster` (where), `store` (what is kept), `sweep` (the loop
around them), `study` (what came out), `pareto` (fronts), `compare` (a few chips side by side).
"""
