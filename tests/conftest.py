"""How Hypothesis works here: the same examples in each run, however slow the machine is.

`HYPOTHESIS_PROFILE=search` looks at new examples instead; what it finds becomes a test.
"""

import os

from hypothesis import HealthCheck, settings

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", patient, derandomize=True)
settings.register_profile("search", patient, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Stock tools are read in their own words, not in those of whoever runs the tests.
os.environ["LC_ALL"] = "C.UTF-8"
