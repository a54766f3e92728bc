"""How much memory batches of each size need on this machine, and which size is the fastest: measured, not estimated."""
