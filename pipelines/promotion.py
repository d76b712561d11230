"""Promotion: a candidate against the champion and the baselines on the validation days."""

import dataclasses

from data.city import City
from data.errors import FlowcastError
from data.store import Store
from forecasting.baselines import BASELINES
from forecasting.forecaster import Forecaster
from forecasting.lesson import Lesson
from forecasting.registry import load_version, models_root


def champion_of(store: Store, city: City, lesson: Lesson) -> Forecaster | None:
    """Returns the champion as it would be without the validation days, which its climatology saw."""
    version = store.champion(city)
    if version is None:
        return None
    try:
        served = load_version(models_root(), city, version)
    except FlowcastError:
        return None  # What cannot serve need not be beaten.
    return dataclasses.replace(served, climatology=lesson.climatology)


def scores_of(
    candidate: Forecaster, champion: Forecaster | None, lesson: Lesson
) -> dict[str, dict[str, float]]:
    """Returns the validation errors of the candidate and of all that it is judged against."""
    forecasters = {"candidate": candidate}
    if champion is not None:
        forecasters["champion"] = champion
    known = (lesson.train, lesson.climatology)
    forecasters |= {name: make(*known) for name, make in BASELINES.items()}
    return {name: lesson.errors(forecaster) for name, forecaster in forecasters.items()}


def judge(scores: dict[str, dict[str, float]]) -> tuple[bool, str]:
    """Returns whether the candidate is promoted, and why or why not."""
    own = scores["candidate"]["all"]
    rivals = {"historical average": scores["historical-average"]["all"]}
    if "champion" in scores:
        rivals["champion"] = scores["champion"]["all"]
    for name, error in rivals.items():
        if not own < error:  # A figure that is no number fails too.
            return (
                False,
                f"RMSE {own:.2f} on the validation days, not below the {name}'s {error:.2f}",
            )
    beaten = " and the ".join(f"{name}'s {error:.2f}" for name, error in rivals.items())
    return True, f"RMSE {own:.2f} on the validation days, below the {beaten}"
