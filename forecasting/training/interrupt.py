"""Stopping: how a training is asked to end before its last epoch."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # jobs that train nothing are stopped by it too
    from torch import nn

TERMINATED = 128 + 15
Event = TypeVar("Event")


class Stop(threading.Event):
    """Once set, a training ends after the step at hand, or within a validation.

    Attributes:
        hurried: whether there is no time to make a version of what was trained.
        heeded: whether a training is under way that would lose something if it ended at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hurried = False
        self.heeded = False

    def hurry(self) -> None:
        """Lets a training save and end; a process without one under way ends at once.

        Raises:
            SystemExit: 143, what a process that was told to terminate ends with.
        """
        self.hurried = True
        self.set()
        if not self.heeded:
            sys.exit(TERMINATED)


class Stopped(Exception):
    """A validation was broken off."""


@contextmanager
def breaking_off(network: "nn.Module", stop: threading.Event | None) -> Iterator[None]:
    """Lets any use of the network's parts raise `Stopped` once `stop` is set."""
    if stop is None:
        yield
        return

    def look(module: "nn.Module", inputs: Any) -> None:
        if stop.is_set():
            raise Stopped

    hooks = [module.register_forward_pre_hook(look) for module in network.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def heeded(events: Iterator[Event], stop: threading.Event | None) -> Iterator[Event]:
    """Passes the events of a training on; from the first one on there is something to be saved."""
    try:
        for event in events:
            if isinstance(stop, Stop):
                stop.heeded = True
            yield event
    finally:
        if isinstance(stop, Stop):
            stop.heeded = False
