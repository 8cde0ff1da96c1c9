"""How a request becomes a running server.

Knows the catalogue (`profiles`) and JupyterHub; knows nothing of settings, login or pages (`hub`).
What it needs of the hub comes through the Protocols in `spawner.protocols`.
"""
