"""Benchmarks: this package against the limit and against peers, in one run.

``python -m benchmarks NAME`` from a checkout; ``python -m benchmarks --help`` lists them. Rounds are
interleaved (A B A B), a ratio is taken within each round, and what is shown is the median of those with
the smallest and the largest. CPU seconds include child processes. Nothing but Python's own
bytecode is written outside of a temporary folder.
"""
