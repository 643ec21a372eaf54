"""Random tests are the same each time, so that a change fails for what it changes.

`pytest tests/unit --hypothesis-profile=search` looks elsewhere each time.
"""

from hypothesis import settings

settings.register_profile("stable", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("stable")
