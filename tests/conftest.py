"""Settings of every test."""

import os

import hypothesis

# Tiny tensors gain nothing from a second thread, and lose much on a machine whose cores are shared.
# Before torch is imported, for child processes too; tests about threads set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no clock in a verdict: small machines are slow at times.
hypothesis.settings.register_profile("lets", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("lets")
