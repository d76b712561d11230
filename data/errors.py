"""Errors that a user can mend."""


class FlowcastError(Exception):
    """A condition that the user can mend: its text is one sentence with the numbers and the way out.

    The command line prints the sentence and exits with 1; any other exception is a bug of ours and
    shows its traceback.
    """


class StoreError(FlowcastError):
    """The database cannot be opened, read or written; nothing was changed."""


class NotNowError(FlowcastError):
    """Something cannot be done at the moment, such as while the disk is full; nothing was changed."""
