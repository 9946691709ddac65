"""A training shared by two processes, started as a user starts it, beside the same training in one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import write_study

from forecasting.checkpoint import load_tuned
from forecasting.files import read_json, write_json
from tunetrade.cell import run_cell
from tunetrade.config import study_from
from tunetrade.together import ALONE, company

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
SETTINGS = (
    "training.steps=8", "training.batch_size=5", "training.accumulate=2", "training.evaluate_every=2",
    "training.learning_rate=0.01", "training.schedule=cosine", "training.min_steps=8", "training.keep_epochs=true",
    "split.train_start=2018-12-01",
)  # fmt: skip


def test_two_processes_go_the_way_of_one(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five windows a step: three for one process, two for the other, each in two micro-batches."""
    write_study(tmp_path, tiny_base)
    asked = ["train", "ecb:EURUSD", "--method", "full", "--config", "small.toml", "--json"]
    asked += [part for text in SETTINGS for part in ("--set", text)]
    launched = subprocess.run(
        [*LAUNCH, "--main_process_port", "0", "-m", "tunetrade", *asked],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False, timeout=180,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr[-3000:]
    together = tmp_path / json.loads(launched.stdout)["run"]  # which fails if process 1 prints, too
    assert read_json(together / "run.json")["status"] == "done"

    alone = shutil.copytree(together, tmp_path / "alone")
    write_json(alone / "run.json", {**read_json(alone / "run.json"), "stages": {}})
    for folder in ("checkpoint", "checkpoints", "tensorboard"):
        shutil.rmtree(alone / folder)
    run_cell(alone, lambda message: None, until="train")

    shared, single = (read_json(run / "train.json") for run in (together, alone))
    assert (shared["processes"], single["processes"]) == (2, 1)
    curves = [[(row["train_loss"], row["validation_loss"]) for row in each["history"][1:]] for each in (shared, single)]
    np.testing.assert_allclose(*curves, rtol=1e-4)
    assert len(curves[0]) == 4
    assert np.ptp(curves[0], axis=0).min() > 0.02  # they went somewhere
    kept = [sorted(file.relative_to(run) for file in run.glob("checkpoint*/**/*")) for run in (together, alone)]
    assert kept[0] == kept[1]
    assert len(list(together.glob("tensorboard/*"))) == 1

    epochs = sorted(alone.glob("checkpoints/epoch-*"))
    assert [folder.name for folder in epochs] == ["epoch-1", "epoch-2"]
    weights = [load_tuned(folder).model.state_dict()["lm_head.weight"] for folder in epochs]
    assert not torch.equal(*weights)


ONE_ENDS = """
import os, sys
import torch.distributed as dist
from forecasting.errors import LostProcessError
from forecasting.training.processes import joined, leave
rank = 1 if os.fork() == 0 else 0
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
assert joined().told(rank == 0)
if rank:
    os._exit(1)  # as one that runs out of memory
try:
    leave(together=True)
except LostProcessError as error:
    print(error)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, to import torch once")
def test_a_process_that_is_lost_is_told_in_a_line(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-u", "-c", ONE_ENDS, str(tmp_path / "meet")],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert found.stdout.startswith("another process of this training has ended; see what it said"), found.stderr


def test_a_launcher_that_starts_one_process_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `accelerate launch --num_processes 2` does on the CPU."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert company(study_from({"name": "any", "series": ["ecb:EURUSD"]})) is None
    assert ALONE in capsys.readouterr().err
