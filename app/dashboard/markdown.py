"""Text that Streamlit shows as it stands."""

import re

from data.city import visible

MOST_TEXT, MOST_DECIMALS = 300, 4
JOINER = "\u2060"
"""What has no width and lets nothing break: it keeps apart what would become a link or a sign."""

APART = (
    re.compile(r"(?<=\bhttp)(?=s?:)|(?<=\bhttps)(?=:)|(?<=\bftp)(?=:)|(?<=\bwww)(?=\.)", re.I),
    re.compile(r"(?<=@)(?=\w)|(?<=:)(?=[a-z_])", re.I),
    re.compile(r"(?<=[-<>=~])(?=[-<>=])"),
)
"""Where: addresses, names of icons and colors, arrows and dashes."""

VERBS = (
    *(
        "benchmark",
        "check",
        "dashboard",
        "demo",
        "doctor",
        "evaluate",
        "ingest",
        "models",
        "nightly",
    ),
    *("replay", "schedule", "simulate", "step", "train"),
)

COMMAND = re.compile(
    rf"\bforecast (?:(?:{'|'.join(VERBS)})\b|--[a-z])(?:(?![.:!?](?:\s|$))[^;,()\"…])*"
)
"""A command of ours within a sentence, until a sign or the sentence ends it."""


def plain(text: object) -> str:
    """Returns text that Streamlit shows as it stands: no markup, no link, and not without end.

    Commands of ours within it are shown as code, of which what is copied is what was typed.
    """
    bounded = " ".join(visible(text).split())
    if len(bounded) > MOST_TEXT:
        bounded = bounded[: MOST_TEXT - 1] + "…"
    parts, end = [], 0
    for found in COMMAND.finditer(bounded):
        if bounded[found.end() : found.end() + 1] != "…":  # half a command is none
            command = found[0].rstrip()
            parts += [_escaped(bounded[end : found.start()]), _code(command)]
            end = found.start() + len(command)
    return "".join([*parts, _escaped(bounded[end:])])


def _code(command: str) -> str:
    """Returns a command as code, out of which no sign of its own leads."""
    return "`" + command.replace("`", "'") + "`"


def _escaped(text: str) -> str:
    for pattern in APART:
        text = pattern.sub(JOINER, text)
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!$|~:&^=])", r"\\\1", text)
