"""Imported by the server that local workers are forked from: everything is loaded once, not once per worker, and is no
garbage, so that workers' collections leave it alone (and with it the memory that all of them share).

An import that fails here fails in the workers too, where it is reported.
"""

import gc
import signal
from contextlib import suppress

# Ctrl-C is for the program that started this server, which ends it.
signal.signal(signal.SIGINT, signal.SIG_IGN)

with suppress(Exception):
    from sim.explore.workers import load_everything

    load_everything()

gc.freeze()
