# Read by login shells after /etc/profile has set a PATH of its own.
PATH=/opt/jupyter/bin:$PATH:$HOME/.local/bin
