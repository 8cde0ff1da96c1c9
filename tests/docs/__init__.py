"""The documentation keeps what it promises."""
