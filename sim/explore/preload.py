"""Imported by the server that local workers are forked from: everything is loaded once, not once per worker.

An import that fails here fails in the workers too, where it is reported.
"""

from contextlib import suppress

with suppress(Exception):
    from sim.explore.workers import load_everything

    load_everything()
