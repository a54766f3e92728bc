"""Procedural memory: what the user does, what comes next, and how it was done last time."""
