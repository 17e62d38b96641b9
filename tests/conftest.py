"""Settings of every test."""

import hypothesis

# The same examples in every run, and no clock in a verdict: small machines are slow at times.
hypothesis.settings.register_profile("lets", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("lets")
