"""Tile codec, window kernels (stream and batch) and the Feast stores on them."""
