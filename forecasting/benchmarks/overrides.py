"""Settings: `key=value` texts laid over a configuration, checked by the type of each field."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from data.errors import FlowcastError

Config = TypeVar("Config")
LARGEST = 10**9


def overridden(config: Config, changes: Mapping[str, str]) -> Config:
    """Returns the frozen dataclass `config` with some fields replaced.

    Args:
        config: any of our configurations.
        changes: field to text, such as `{"patch": "4", "depths": "2,6", "minutes": "none"}`.

    Raises:
        FlowcastError: there is no such field, or the text is no value for it.
    """
    try:
        return dataclasses.replace(config, **parsed(type(config), changes))  # type: ignore[type-var]
    except ValueError as error:
        raise FlowcastError(f"these settings do not go together: {error}") from error


def parsed(config: type, changes: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values that texts stand for, by the type of each field of `config`.

    Raises:
        FlowcastError: there is no such field, or the text is no value for it.
    """
    hints = get_type_hints(config)
    values: dict[str, Any] = {}
    for key, text in changes.items():
        if key not in hints:
            raise FlowcastError(
                f"{config.__name__} has no setting {key!r}; it has {', '.join(hints)}"
            )
        try:
            values[key] = _value(text, hints[key])
        except (ValueError, OverflowError) as error:
            raise FlowcastError(
                f"{text!r} is no value for {key} ({_type_name(hints[key])})"
            ) from error
    return values


def _value(text: str, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_value(part.strip(), get_args(hint)[0]) for part in text.split(",") if part)
    types = get_args(hint) or (hint,)
    if type(None) in types and text.lower() == "none":
        return None
    value = next(one for one in types if one is not type(None))(text)
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{text} is beyond {LARGEST:,}")
    return value


def _type_name(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"{_type_name(get_args(hint)[0])}s with commas between"
    types = get_args(hint) or (hint,)
    names = {int: "whole number", float: "number", str: "word", type(None): "none"}
    return " or ".join(names[one] for one in types)
