"""From a Zero to JupyterHub installation to this one: its values turned into ours, its homes found again."""
