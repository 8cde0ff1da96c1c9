"""Real parts for tests and for a developer by hand: `python -m tests.lab up kubernetes`.

What it starts, where it keeps things and how it cleans up is in README.md beside this file. Nothing of
the product imports this package; only tests and people do.
"""
