"""Fitting: which fits a recipe asks for, and what they make, without anything on disk."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.city import City, load_city
from data.errors import FlowcastError
from data.flow import Split, split
from data.store.store import Store
from forecasting.city.fit import FitPlan, begin, fitted, network_for
from forecasting.city.recipe import Recipe
from forecasting.covariates.config import RAW_FLOW, CovariatesConfig
from forecasting.ensemble import NeuralForecaster
from forecasting.history import History
from forecasting.training.hardware import Computing
from forecasting.training.state import Epoch, TrainingState
from pipelines.train.checkpoints import _written

CPU = Computing("cpu")
QUICK = {"epochs": 2, "history": 2, "horizon": 1, "batch": 128}


@pytest.fixture
def city(small_home: Path) -> City:
    return load_city("small")


@pytest.fixture
def parts(city: City) -> Split:
    return split(Store().flow.read(city), city)


def plan_of(parts: Split, city: City, **asked: object) -> FitPlan:
    return FitPlan.prepare(parts, city, Recipe.from_options(**asked))  # type: ignore[arg-type]


def after(plan: FitPlan, errors: list[float]) -> TrainingState:
    """The state of a first member whose epochs were judged so."""
    task = plan.selection(0)
    state = begin(task, torch.device("cpu"))
    for number, error in enumerate(errors, start=1):
        best = all(error < before for before in errors[: number - 1])
        state.history.append(Epoch(number, 1.0, error, best, 10.0 * number))
    return state


# Which fits there are


def test_members_differ_in_their_seed_alone(parts: Split, city: City) -> None:
    plan = plan_of(parts, city, ensemble_size=3, seed=5)
    configs = [plan.selection(member).config for member in range(3)]
    assert [config.seed for config in configs] == [5, 6, 7]
    assert {replace(config, seed=0) for config in configs} == {replace(configs[0], seed=0)}
    assert (plan.members, plan.fits) == (3, 6)
    assert plan_of(parts, city, ensemble_size=3, refit=False).fits == 3


def test_a_final_fit_ends_after_the_epochs_found_on_the_same_schedule(
    parts: Split, city: City
) -> None:
    plan = plan_of(parts, city, ensemble_size=2, epochs=9, patience=3)
    state = after(plan, [4, 3, 2, 5, 6, 7])
    final = plan.final(1, state)
    config = final.config
    assert (config.last, config.epochs, config.patience, config.seed) == (3, 9, 0, 1)
    assert len(final.init_times) == 0
    assert final.train.sizes["time"] == sum(part.sizes["time"] for part in parts[:2])


def test_minutes_are_shared_by_all_fits_and_their_days(parts: Split, city: City) -> None:
    plan = plan_of(parts, city, ensemble_size=2, minutes=10.0, trees=False)
    days, more = (sum(part.sizes["time"] for part in parts[:n]) for n in (1, 2))
    # Final fits see a few more days than those before, and take so much longer.
    assert plan.selection(0).config.minutes == pytest.approx(10 / 2 / (1 + more / days))
    alone = plan_of(parts, city, ensemble_size=2, minutes=10.0, refit=False, trees=False)
    assert alone.selection(1).config.minutes == 5
    # Trees take two minutes, where there are five or more.
    grown = plan_of(parts, city, ensemble_size=2, minutes=10.0, refit=False)
    assert (grown.recipe.trees, grown.selection(1).config.minutes) == (True, 4)
    hasty = plan_of(parts, city, ensemble_size=2, minutes=4.0, refit=False)
    assert (hasty.recipe.trees, hasty.selection(1).config.minutes) == (False, 2)
    # Of 40 epochs as many were made as the minutes allowed: the final schedule is as long.
    planned = plan_of(parts, city, ensemble_size=1, minutes=1.0, refit=False, epochs=40)
    state = after(planned, [4, 3, 2, 5, 6, 7])
    assert (planned.final(0, state).config.epochs, planned.final(0, state).config.minutes) == (
        6,
        None,
    )


def test_epochs_and_members_follow_the_number_of_windows() -> None:
    recipe = Recipe.from_options()
    settled = [recipe.resolved(count) for count in (500, 12_000, 40_000, 1_000_000)]
    assert [one.ensemble_size for one in settled] == [3, 2, 1, 1]
    assert Recipe.from_options(raw_ensemble=False).resolved(40_000).ensemble_size == 2
    # Six epochs, but 16,000 windows where there are few, and 400,000 where there are many more.
    assert [one.training.epochs for one in settled] == [32, 6, 6, 2]
    assert [one.training.optimizer for one in settled] == ["adamw", "muon", "muon", "muon"]
    assert [recipe.resolved(count).training.epochs for count in (2_680, 100, 100_000)] == [6, 60, 4]
    assert Recipe.from_options(network="convlstm").resolved(12_000).training.epochs == 10
    asked = Recipe.from_options(ensemble_size=4, epochs=11).resolved(1_000_000)
    assert (asked.ensemble_size, asked.training.epochs, asked.epochs) == (4, 11, 11)
    assert asked.resolved(5) == asked


def test_a_second_kind_of_networks_takes_the_time_of_final_fits_where_windows_are_many(
    parts: Split, city: City
) -> None:
    settled = [Recipe.from_options().resolved(count) for count in (500, 9_999, 10_000, 40_000)]
    assert [(one.raw_ensemble, one.refit) for one in settled] == [(False, True)] * 2 + [
        (True, False)
    ] * 2
    assert not Recipe(context=RAW_FLOW).resolved(40_000).raw_ensemble
    asked = Recipe.from_options(raw_ensemble=False, refit=True).resolved(40_000)
    assert (asked.raw_ensemble, asked.refit) == (False, True)
    plan = plan_of(
        parts,
        city,
        ensemble_size=2,
        raw_ensemble=True,
        refit=False,
        minutes=8.0,
        trees=False,
        seed=5,
    )
    tasks = [plan.selection(member) for member in range(4)]
    assert (plan.members, plan.fits) == (4, 4)
    assert [one.config.seed for one in tasks] == [5, 6, 5, 6]
    assert {one.config.minutes for one in tasks} == {2.0}
    assert [one.context.config.raw_flow for one in tasks] == [False, False, True, True]
    # Frames in context are differences; alone they are the flow, in units of its own spread.
    np.testing.assert_allclose(
        tasks[2].rows.frames * tasks[2].context.scale, parts.train.values, rtol=1e-5, atol=1e-4
    )


def test_a_recipe_survives_json() -> None:
    for recipe in (
        Recipe.from_options(),
        Recipe.from_options(
            network="simvp", without=["hour"], ensemble_size=2, refit=False, minutes=3.5
        ),
        Recipe(context=RAW_FLOW).resolved(1000),
        Recipe.from_options(raw_ensemble=True).resolved(20_000),
        Recipe.from_options(also=["last_week"], epochs=3).resolved(1000),
    ):
        assert Recipe.from_fields(json.loads(json.dumps(recipe.to_fields()))) == recipe


def test_a_recipe_from_before_there_was_a_choice_stays_what_it_was() -> None:
    fields = Recipe.from_options(raw_ensemble=True, optimizer="adamw").resolved(20_000).to_fields()
    del fields["optimizer"], fields["training"]["optimizer"]
    again = Recipe.from_fields(json.loads(json.dumps(fields))).resolved(20_000)
    assert (again.optimizer, again.training.optimizer) == ("adamw", "adamw")
    written = json.loads(_written(again))
    assert "optimizer" not in {*written, *written["training"]}
    assert written == json.loads(json.dumps(fields))


def test_a_recipe_is_the_usual_one_but_for_what_is_asked() -> None:
    few = Recipe.from_options(without=["hour"], also=["last_week"]).resolved(1000).context
    assert few == replace(CovariatesConfig.for_windows(1000), hour=False, last_week=True)
    assert Recipe.from_options(seed=None, learning_rate=None) == Recipe()
    with pytest.raises(ValueError, match="an ensemble of 0 networks is less than 1"):
        Recipe.from_options(ensemble_size=0)
    with pytest.raises(ValueError, match="'hour' cannot be switched off and on at once"):
        Recipe.from_options(without=["hour"], also=["hour"])
    with pytest.raises(ValueError, match="no covariate 'color'"):
        Recipe.from_options(without=["color"])


def test_a_network_that_there_is_not_is_told(city: City) -> None:
    with pytest.raises(FlowcastError, match="no network 'lstm'; there is swinlstm-b"):
        network_for(city, "lstm", Recipe().training)


# What they make


def values_of(forecaster: NeuralForecaster, parts: Split) -> np.ndarray:
    flow, init_times = parts.train, parts.train["time"].values[[400, 500]]
    return forecaster(History.of(flow, init_times), 3).values


def test_what_is_fitted_is_the_mean_of_its_members_before_and_after_the_final_fits(
    parts: Split, city: City
) -> None:
    made = fitted(
        parts,
        city,
        Recipe.from_options(network="convlstm", ensemble_size=2, trees=False, **QUICK),
        computing=CPU,
    )
    assert len(made.forecaster.rollouts) == len(made.selected.rollouts) == len(made.epochs) == 2
    assert set(made.epochs) <= {1, 2}
    assert made.seconds > 0
    for whole in (made.forecaster, made.selected):
        single = [values_of(replace(whole, rollouts=(one,)), parts) for one in whole.rollouts]
        assert not np.allclose(*single, atol=1e-3)
        kept = (single[0] > 0) & (single[1] > 0)  # where neither was raised to zero
        mean = (single[0] + single[1]) / 2
        np.testing.assert_allclose(values_of(whole, parts)[kept], mean[kept], rtol=1e-4)
    # What is final knows more days; what was selected knows none of them.
    usual = [
        one.context.expected.climatology.count.sum() for one in (made.selected, made.forecaster)
    ]
    assert usual[0] < usual[1]


def test_both_kinds_of_networks_err_no_more_together_than_alone(parts: Split, city: City) -> None:
    recipe = Recipe.from_options(
        network="convlstm", ensemble_size=1, raw_ensemble=True, trees=False, **QUICK
    )
    made, task = fitted(parts, city, recipe, computing=CPU), plan_of(parts, city).task
    for whole in (made.selected, made.forecaster):
        assert whole.raw is not None
        assert whole.raw_weight == made.selected.raw_weight
        each = (replace(whole, raw=None), whole.raw, whole)
        alone, plain, both = (values_of(one, parts) for one in each)
        mixed = alone + whole.raw_weight * (plain - alone)
        mixed[:, 1:] = alone[:, 1:]  # leads that they were not trained for
        np.testing.assert_allclose(both, mixed, rtol=1e-4, atol=1e-3)
    assert 0 < made.selected.raw_weight < 1
    one_step = replace(task, config=replace(task.config, horizon=1))
    kinds = (replace(made.selected, raw=None), made.selected.raw, made.selected)
    first, second, together = (one_step.errors(one)["all"] for one in kinds if one is not None)
    assert together < min(first, second)


def test_the_test_days_and_for_the_selection_the_validation_days_are_not_looked_at(
    parts: Split, city: City
) -> None:
    recipe = Recipe.from_options(
        network="convlstm", ensemble_size=1, trees=False, **(QUICK | {"epochs": 1})
    )
    one = fitted(parts, city, recipe, computing=CPU)
    other = Split(parts.train, parts.validation, parts.test + 100)
    two = fitted(other, city, recipe, computing=CPU)
    np.testing.assert_array_equal(
        values_of(one.forecaster, parts), values_of(two.forecaster, parts)
    )
    validation = parts.validation + 100
    validation.attrs = parts.validation.attrs
    three = fitted(Split(parts.train, validation, parts.test), city, recipe, computing=CPU)
    np.testing.assert_array_equal(values_of(one.selected, parts), values_of(three.selected, parts))
    assert not np.array_equal(values_of(one.forecaster, parts), values_of(three.forecaster, parts))
