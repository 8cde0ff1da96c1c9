"""Databases and a hub for the tests of this folder."""

from tests.databases import database, database_url, postgres_server
from tests.hub.promoting_world import hub, servers

__all__ = ["database", "database_url", "hub", "postgres_server", "servers"]
