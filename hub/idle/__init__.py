"""Running sessions: whether they work, how long they may go on, and what is announced before one is stopped."""
