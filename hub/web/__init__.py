"""The service: REST API and pages beside the hub's, below `/services/armillary/`.

Keeps nothing of its own: what it tells comes from the database and from the hub, so that any number of it may run.
Knows nothing of JupyterHub but its web API.
"""
