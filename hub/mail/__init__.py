"""Notices by e-mail: whose address is known, what is written, and how it is handed to a server for mail."""
