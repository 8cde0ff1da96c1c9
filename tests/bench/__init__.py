"""Benchmarks: ours beside what it is measured against, in the same run, on the same machine.

`python -m tests.bench.spawn --help` says what one can be told. Nothing here asserts a time: a small run of each
benchmark is a test that it works, and its numbers mean nothing.
"""
