"""Databases for the tests of this folder."""

from tests.databases import database, database_url, postgres_server

__all__ = ["database", "database_url", "postgres_server"]
