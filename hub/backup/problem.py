"""Why a copy could not be made, or put back."""

__all__ = ["BackupError"]


class BackupError(RuntimeError):
    """Nothing was made, or nothing was changed unless the text says otherwise; it is for the operator."""
