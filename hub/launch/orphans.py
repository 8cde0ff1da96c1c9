"""Sessions whose hub was killed: adopted by the launcher, so that none stays as a zombie when it ends.

A container often has no init process that would reap them. Only what asyncio does not wait for is reaped here.
"""

import contextlib
import ctypes
import os

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of every descendant whose own parent dies (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(others: frozenset[int]) -> int:
    """Reap children that have ended, except `others`, whom somebody else waits for. Returns how many.

    Stops at the first of `others` that it meets: the kernel would name that one again and again.
    """
    count = 0
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return count
        if ended is None or ended.si_pid in others:
            return count
        with contextlib.suppress(ChildProcessError):
            os.waitpid(ended.si_pid, os.WNOHANG)
            count += 1
