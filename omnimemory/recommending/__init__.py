"""Which model suits this machine, and a question."""
