"""The documentation: `python -m docs.build` makes it."""
