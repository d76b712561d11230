"""The exceptions that a person can mend."""


class FlowcastError(Exception):
    """A condition that the user can mend: its text is one sentence with the numbers and the way out.

    The command line prints the sentence and exits with 1; any other exception is a bug of ours and
    shows its traceback.
    """


class StoreError(FlowcastError):
    """The database cannot be opened, read or written; nothing was changed."""


class NotNowError(FlowcastError):
    """Something could not be done at the moment, by no fault of its own; nothing was changed.

    Such as a file that cannot be read while the disk is full, or a training while another one runs.
    """
