"""Folds events into tiles, archives them, keeps segments, sweeps, serves online reads."""
