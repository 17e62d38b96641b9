"""LeTS: one frozen encoder, many text tasks, one call."""

__version__ = "0.1.0"
