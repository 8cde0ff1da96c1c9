"""`armillary mig`: another MIG layout for a node's cards, without taking them from under anybody unannounced."""
