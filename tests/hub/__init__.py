"""Tests of the hub and of what surrounds it."""
