"""What surrounds a server: settings, login, the launcher, the command line.

May import `profiles` and `spawner`; neither may import this package.
"""
