"""Hypothesis draws the same examples in every run of the suite: a gate must not depend on luck.

`HYPOTHESIS_PROFILE=random pytest ...` looks for new ones.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
