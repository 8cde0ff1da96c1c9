"""The tests; a package, so that `tests.lab` is found before any other package named tests."""
