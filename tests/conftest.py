"""Settings of every test."""

import os
import tempfile

import hypothesis

# Tiny tensors gain nothing from a second thread, and lose much on a machine whose cores are shared.
# Before torch is imported, for child processes too; tests about threads set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What the engine measures of the machine is kept for a run of the tests, not in the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="lets-tests-")
os.environ["LETS_CACHE_DIR"] = _CACHE.name

# The same examples in every run, and no clock in a verdict: small machines are slow at times.
hypothesis.settings.register_profile("lets", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("lets")
