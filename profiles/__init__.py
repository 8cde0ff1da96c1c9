"""What can be asked for: typed catalogue of accelerators, images and profiles, and who may start which.

Knows neither JupyterHub nor a Kubernetes client, so that the hub, the service and the command line read one catalogue
in one way.
"""
