"""The chart: `armillary/` is what helm installs, the modules here write what can be made from models."""
