"""What people and groups may use: limits, whose they are, and whether a request would break one."""
