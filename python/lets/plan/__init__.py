"""Plans: what a set of tasks computes on one encoder, as data."""
