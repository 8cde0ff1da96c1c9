"""The launcher of one machine: owns proxy, hub and demonstration provider, so that a hub restart cuts nobody off."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `run …` or `clean …`; returns the exit status."""
    # Late: the provider's process imports this package too and needs none of it.
    from hub.launch.command import main as command

    return command(argv)


__all__ = ["main"]
