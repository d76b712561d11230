"""The verb train: its options, what it prints, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.city import load_city
from data.store.store import Store
from tests.app.conftest import Run

LIMIT = 600
FAST = ["--network", "convlstm", "--no-trees", "--batch", "128", "--device", "cpu"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no flow for bj"),
        (["--resume"], "no training to go on with in "),
        (["--network", "lstm"], "no flow for bj"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(
    run: Run, flowcast_home: Path, arguments: list[str], sentence: str
) -> None:
    code, out, err = run("train", "--city", "bj", *arguments)
    assert (code, out) == (1, "")
    assert sentence in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ensemble-size", "0"], "or equal to 1"),
        (["--horizon", "0"], "or equal to 1"),
        (["--without", "hour,color"], "no covariate 'color'; there is anomaly"),
        (["--without", "hour", "--with", "hour"], "off and on at once"),
        (["--average", "2"], "average 2.0 is no decay from 0 to below 1"),
        (["--precision", "float8"], "precision 'float8' is none of float32, bfloat16"),
        (["--serve", "int4"], "serve 'int4' is none of float32, int8"),
        (["--resume", "--ensemble-size", "2"], "--ensemble-size cannot change when"),
        (["--resume", "--members", "2"], "--ensemble-size cannot change when"),
        (["--resume", "--no-refit"], "--refit cannot change when"),
        (["--resume", "--without", "hour"], "--without cannot change when"),
        (["--resume", "--batch", "8"], "--batch cannot change when"),
        (["--resume", "--horizon", "8"], "--horizon cannot change when"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    run: Run, flowcast_home: Path, arguments: list[str], sentence: str
) -> None:
    code, out, err = run("train", "--city", "bj", *arguments)
    assert (code, out) == (2, "")
    assert sentence in " ".join(err.replace("│", " ").split())


def test_a_training_prints_its_fits_and_is_resumed(run: Run, small_home: Path) -> None:
    options = ["--ensemble-size", 1, "--without", "hour, place", "--precision", "bfloat16", *FAST]
    code, out, err = run("train", "--city", "small", "--epochs", 1, "--seed", 3, *options)
    assert code == 0, err
    assert "version 20" in out
    lines = [line for line in err.splitlines() if re.match(r"fit|epoch \d:", line)]
    assert lines[0] == "fit 1 of 2: the validation days choose the epochs (seed 3)"
    assert lines[2] == "fit 2 of 2: refit on train + validation (seed 3)"
    # A refit leaves nothing to validate on.
    assert ["validation RMSE" in line for line in lines[1::2]] == [True, False]
    code, out, err = run("train", "--city", "small", "--resume", "--epochs", 2, "--device", "cpu")
    assert code == 0, err
    assert "epoch 2: training loss" in err


@pytest.mark.parametrize(
    "names",
    [("--ensemble-size", "--no-refit", "--raw-ensemble"), ("--members", "--no-final", "--plain")],
)
def test_options_under_their_former_names_do_the_same(
    run: Run, small_home: Path, names: tuple[str, str, str]
) -> None:
    size, *rest = names
    code, _, err = run("train", "--city", "small", "--epochs", 1, size, 1, *rest, *FAST)
    assert code == 0, err
    lines = [line for line in err.splitlines() if line.startswith("fit")]
    assert lines == [
        "fit 1 of 2: the validation days choose the epochs (seed 0)",
        "fit 2 of 2: a network without covariates; the validation days choose the epochs (seed 0)",
    ]


def test_help_names_every_option_but_former_ones(run: Run) -> None:
    code, out, _ = run("train", "--help")
    assert code == 0
    assert not {"--members", "--final", "--plain"} & {*re.findall(r"--[a-z-]+", out)}
    assert {"--ensemble-size", "--refit", "--horizon", "--history"} <= {
        *re.findall(r"--[a-z-]+", out)
    }


def test_networks_and_intervals_are_of_the_horizon_and_history_that_were_trained(
    run: Run, small_home: Path
) -> None:
    options = ["--horizon", 6, "--history", 3, "--epochs", 1, "--ensemble-size", 1, *FAST]
    code, out, err = run("train", "--city", "small", *options)
    assert code == 0, err
    version = out.split()[1]
    manifest = json.loads((small_home / "models/small" / version / "manifest.json").read_text())
    assert (manifest["history"], manifest["training"]["horizon"]) == (3, 6)
    assert list(manifest["metrics"]["candidate"]) == [
        *(f"lead {lead}" for lead in range(1, 7)),
        "all",
    ]
    Store().promotions.promote(load_city("small"), version, "by hand")
    code, out, err = run("--city", "small", "--horizon", 6, "--json")
    assert code == 0, err
    assert "calibrated for" not in err
    assert len(json.loads(out)["band"]["lower"][0]) == 6
    code, out, err = run("--city", "small", "--horizon", 7)
    assert "calibrated for 6 steps" in err


@pytest.mark.slow
def test_ctrl_c_ends_training_with_the_best_epoch_so_far(small_home: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "train", "--city", "small", "--epochs", "400"]
    process = subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1:"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert "version 20" in out
    assert "to continue: forecast train --city small --resume" in err
