"""The hub of the chart Zero to JupyterHub 4, as far as an image has to fit in: a stand-in, in words of our own."""
