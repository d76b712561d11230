"""Errors that a user can mend."""

from collections.abc import Iterable


class FlowcastError(Exception):
    """A condition that the user can mend: its text is one sentence with the numbers and the way out.

    The command line prints the sentence and exits with 1; any other exception is a bug of ours and
    shows its traceback.
    """


class StoreError(FlowcastError):
    """The database cannot be opened, read or written; nothing was changed."""


class NotNowError(FlowcastError):
    """Something cannot be done at the moment, such as while the disk is full; nothing was changed."""


def check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Checks that names are known.

    Args:
        what: they name, such as "dataset", for the sentence.
        names: to be checked.
        known: that there are.

    Raises:
        FlowcastError: one of them is not.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise FlowcastError(f"there is no {what} {name!r}; there is {', '.join(known)}")
