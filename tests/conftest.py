"""How Hypothesis works here: the same examples in each run, without time limits.

`HYPOTHESIS_PROFILE=search` looks at new examples instead; what it finds becomes a test.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
