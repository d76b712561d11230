"""Settings laid over configurations: typed by the fields, refused in a sentence."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FlowcastError
from forecasting.benchmarks import DATASETS
from forecasting.benchmarks.overrides import overridden
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames
from forecasting.training.state import TrainingConfig


@dataclass(frozen=True)
class Config:
    whole: int = 1
    number: float = 0.5
    word: str = "one"
    wholes: tuple[int, ...] = (1, 2)
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.whole < 0:
            raise ValueError(f"whole {self.whole} is less than 0")


def text(value: object) -> str:
    """A value as a person writes it."""
    if isinstance(value, tuple):
        return ",".join(map(text, value))
    return "none" if value is None else str(value)


@given(
    st.integers(0, 10**9),
    st.floats(allow_nan=False),
    st.text(),
    st.lists(st.integers(-(10**9), 10**9)).map(tuple),
    st.none() | st.floats(allow_nan=False),
)
def test_what_is_written_is_what_is_read(
    whole: int, number: float, word: str, wholes: tuple[int, ...], minutes: float | None
) -> None:
    wanted = Config(whole, number, word, wholes, minutes)
    written = {field.name: text(getattr(wanted, field.name)) for field in fields(wanted)}
    assert overridden(Config(), written) == wanted


def test_fields_that_are_not_named_stay() -> None:
    config = Config(word="two", minutes=3.0)
    assert overridden(config, {}) == config
    assert overridden(config, {"minutes": "None"}) == Config(word="two")
    assert overridden(config, {"wholes": " 4, 5 "}).wholes == (4, 5)
    assert config == Config(word="two", minutes=3.0), "the one that was given is not changed"


@pytest.mark.parametrize(
    ("key", "written", "sentence"),
    [
        ("hole", "1", "Config has no setting 'hole'; it has whole, number, word, wholes, minutes"),
        ("whole", "1.5", r"'1\.5' is no value for whole \(whole number\)"),
        ("whole", "none", r"'none' is no value for whole \(whole number\)"),
        ("number", "a", r"'a' is no value for number \(number\)"),
        ("wholes", "1,b", r"'1,b' is no value for wholes \(whole numbers with commas between\)"),
        ("minutes", "soon", r"'soon' is no value for minutes \(number or none\)"),
        ("whole", "-1", "these settings do not go together: whole -1 is less than 0"),
    ],
)
def test_what_does_not_fit_is_one_sentence(key: str, written: str, sentence: str) -> None:
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        overridden(Config(), {key: written})
    assert len(str(refusal.value).splitlines()) == 1


FRAMES = Frames(1, (32, 32), 4, 4)
CONFIGS: dict[str, Callable[[], Any]] = {
    "training": TrainingConfig,
    **{f"data of {name}": dataset.config for name, dataset in DATASETS.items()},
    **{name: lambda n=network: n.config.quick(FRAMES) for name, network in NETWORKS.items()},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_of_our_configurations_can_be_set(name: str) -> None:
    config = CONFIGS[name]()
    for key, value in asdict(config).items():
        assert overridden(config, {key: text(value)}) == config
        with pytest.raises(FlowcastError, match=f"no setting '{key}x'"):
            overridden(config, {f"{key}x": text(value)})
        if not isinstance(value, str):
            with pytest.raises(FlowcastError, match=f"'much' is no value for {key} "):
                overridden(config, {key: "much"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"batch": 0}, "batch 0"),
        ({"minutes": 0.0}, "minutes 0"),
        ({"minutes": -1.0}, "minutes -1"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"learning_rate": -1e-3}, r"learning_rate -0\.001"),
        ({"weight_decay": float("inf")}, "weight_decay inf"),
        ({"warm_up": 1.5}, r"warm_up 1\.5"),
        ({"schedule": "never"}, "schedule 'never' is none of one-cycle, constant"),
    ],
)
def test_a_training_that_cannot_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TrainingConfig(), **changes)
    written = {key: str(value) for key, value in changes.items()}
    with pytest.raises(FlowcastError, match=sentence):
        overridden(TrainingConfig(), written)
