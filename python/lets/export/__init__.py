"""Engines for other runtimes."""
