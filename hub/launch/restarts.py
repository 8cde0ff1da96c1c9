"""When to start a process again that died: a pure rule, so that it can be tested without processes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """At most `limit` deaths in `window_s` seconds; pauses double from `first_pause_s` up to `longest_pause_s`."""

    limit: int = 6
    window_s: float = 120.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0

    def pause_after(self, deaths: tuple[float, ...]) -> float | None:
        """Seconds to wait before the next start, or None when it is time to give up.

        Args:
            deaths: when the process died, in seconds of one clock, oldest first, the latest included.
        """
        recent = self.recent(deaths)
        if len(recent) > self.limit:
            return None
        if not recent:
            return 0.0
        return float(min(self.first_pause_s * 2 ** (len(recent) - 1), self.longest_pause_s))

    def recent(self, deaths: tuple[float, ...]) -> tuple[float, ...]:
        """Those deaths that still count: not older than `window_s` before the latest."""
        return tuple(when for when in deaths if when > deaths[-1] - self.window_s)
