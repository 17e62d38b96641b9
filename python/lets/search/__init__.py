"""Computation-aware differentiable search of a policy."""
