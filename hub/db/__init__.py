"""Armillary's own database: where it is, how it is reached, its tables, and how they change between versions.

It knows tables and transactions only; what the rows mean is said by the parts that own them.
"""
