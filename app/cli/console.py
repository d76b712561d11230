"""The two streams of the command line: results on stdout, progress and notes on stderr."""

from rich.console import Console

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)
