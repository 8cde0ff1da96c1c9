"""Copies of an installation in one file each, and putting one back: both databases, secrets, what was configured."""
