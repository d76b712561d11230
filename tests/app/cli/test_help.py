"""Help: every option of every verb says in a sentence what it does, and which default it has."""

import re
from collections.abc import Iterator

import click
import pytest
import typer

from app.cli.main import VERBS, app
from tests.app.conftest import Run

OLD_WORDS = (
    *("told", "came", "shown", "kinds?", "plain", "share", "lessons?", "courses?", "groves?"),
    *("contests?", "towns?", "signs?", "visits?", "usual", "held", "doors", "kin", "settled"),
    *("begun", "strange", "anew", "beside", "takes its place", "in place of", "bands?", "Of"),
)
"""What people do not search for and dictionaries do not explain; the glossary has the field's words."""


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each with the words by which it is called."""
    yield name, command
    for child, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {child}")


COMMANDS = dict(commands(typer.main.get_command(app), "forecast"))
PARAMETERS = {
    f"{name} {parameter.opts[0]}": parameter
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name != "help" and not getattr(parameter, "hidden", False)
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_option_says_in_a_sentence_what_it_does_and_its_default(name: str) -> None:
    parameter = PARAMETERS[name]
    text = getattr(parameter, "help", None) or ""
    assert re.fullmatch(r"[A-Z][^\n]{8,}\.", text), f"{name}: {text!r} is not a sentence"
    is_flag = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
    has_default = parameter.default not in (None, "", [], ()) or isinstance(
        getattr(parameter, "show_default", None), str
    )
    assert parameter.required or is_flag or has_default, f"{name} does not say its default"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_plain_words_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    first, *_ = (command.help or "").split("\n\n")
    assert re.fullmatch(r"[A-Z].{8,}\.", " ".join(first.split())), f"{name}: {first!r}"
    texts = [command.help or ""] + [getattr(one, "help", None) or "" for one in command.params]
    for word in OLD_WORDS:
        found = [text for text in texts if re.search(rf"(?<!-)\b{word}\b", text)]
        assert not found, f"{name} says {word!r}: {found[0]!r}"


def test_help_lists_every_verb_under_what_a_user_is_doing(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for panel, verbs in VERBS.items():
        assert f"─ {panel} ─" in out
        for verb in verbs:
            assert re.search(rf"^│ {verb.__name__} ", out, re.M)
    assert re.search(r"^│ models ", out, re.M)
    assert re.search(r"^│ benchmark ", out, re.M)


def test_the_version_is_that_of_the_package(run: Run) -> None:
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "flowcast")
    assert re.fullmatch(r"\d+\.\d+\.\d+", out.split()[1])
