"""Why a part of the lab could not be brought up."""

from __future__ import annotations


class LabUnavailable(Exception):
    """This machine lacks something that the lab cannot install by itself.

    The text is one sentence for a person: what is missing and how to get it. The test run prints it as the
    reason for what was not run (in CI that is a failure).
    """


class LabError(Exception):
    """A part was started and did not work; the text names the part, the cause and the log to read."""
