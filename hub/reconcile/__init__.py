"""Compares what hub, engine, queue and ledger say of the same sessions, and repairs what cannot be."""
