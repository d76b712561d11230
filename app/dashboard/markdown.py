"""Text that Streamlit shows literally, in spite of the Markdown that it may contain."""

import re

import typer

from app.cli.main import app as command_line
from data.city import visible

MAX_TEXT = 300
JOINER = "\u2060"
"""A character without width that allows no break: it splits what would become a link or an icon."""

SPLITS = (
    re.compile(r"(?<=\bhttp)(?=s?:)|(?<=\bhttps)(?=:)|(?<=\bftp)(?=:)|(?<=\bwww)(?=\.)", re.I),
    re.compile(r"(?<=@)(?=\w)|(?<=:)(?=[a-z_])", re.I),
    re.compile(r"(?<=[-<>=~])(?=[-<>=])"),
)
"""Where a joiner goes: in addresses, names of icons and colors, arrows and dashes."""

VERBS = "|".join(getattr(typer.main.get_command(command_line), "commands", {}))
COMMAND = re.compile(rf"\bforecast (?:(?:{VERBS})\b|--[a-z])(?:(?![.:!?](?:\s|$))[^;,()\"…])*")
"""A command of flowcast in a sentence, up to a punctuation mark or the end of the sentence."""


def literal(text: object) -> str:
    """Returns text for Streamlit that is shown literally, without markup and links, and bounded.

    Commands of flowcast in it become code, so that they can be copied.
    """
    bounded = " ".join(visible(text).split())
    if len(bounded) > MAX_TEXT:
        bounded = bounded[: MAX_TEXT - 1] + "…"
    parts, end = [], 0
    for found in COMMAND.finditer(bounded):
        if bounded[found.end() : found.end() + 1] != "…":  # not a command that was cut
            command = found[0].rstrip()
            parts += [_escaped(bounded[end : found.start()]), f"`{command.replace('`', chr(39))}`"]
            end = found.start() + len(command)
    return "".join([*parts, _escaped(bounded[end:])])


def _escaped(text: str) -> str:
    for pattern in SPLITS:
        text = pattern.sub(JOINER, text)
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!$|~:&^=])", r"\\\1", text)
