"""The direction head: its labels, its training, its forecasts, and a study that trades them."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from forecasting.base import find_base, load_model
from forecasting.checkpoint import load_checkpoint, new_model, save_checkpoint
from forecasting.classification import class_shares, classification_figures
from forecasting.codecs import BinsCodec, DigitsCodec
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json, write_json
from forecasting.methods import method
from forecasting.methods.direction import DirectedGPT2, DirectionOptions
from forecasting.sampler import SamplingOptions
from forecasting.train import TrainingData, TrainingOptions, train
from forecasting.windows import WindowSpec, contexts, targets
from tunetrade.cli import main
from tunetrade.config import as_plain, study_from
from tunetrade.layout import CellPaths
from tunetrade.prepared import prepare
from tunetrade.report import write_report
from tunetrade.study import run_study

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = WindowSpec(context=10, horizon=4)
SAMPLING = SamplingOptions(paths=8, threads=1)
METHOD = method("direction")
OBJECTIVE = METHOD.objective
OPTIONS = DirectionOptions(horizon=4)
FROZEN_OR_NOT = pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, train_base=True)], ids=["frozen", "not"])


def checkpoint(base_folder, folder, options, seed=3):
    """A head with large random weights, and a base that moved where it may."""
    base = find_base(str(base_folder))
    torch.manual_seed(seed)
    model = new_model(str(base_folder), "direction", options).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.3 * torch.randn_like(value))
    save_checkpoint(folder, model, "direction", options, SPEC, base.codec, str(base_folder))
    return model, base


def test_labels_are_those_of_a_loop_over_what_was_known_at_the_cutoff(hourly):
    codec = BinsCodec(bins=31, half_lives=(3.0, 6.0), weights=(0.6, 0.4), timezone="Europe/Berlin", bar_seconds=3600)
    codec = codec.with_profile(hourly.closes[:1500], hourly.times[:1500])
    where = np.arange(1600, 1790, 7)
    inputs, truth = contexts(hourly, SPEC, codec.warm_up, where), targets(hourly, SPEC, where)
    rows = OBJECTIVE.rows(inputs, truth, codec, SPEC.context, replace(OPTIONS, band=0.5))
    assert rows.shape == (len(where), SPEC.context + SPEC.horizon)
    assert set(np.unique(rows[:, SPEC.context :])) == {0, 1, 2}
    for n, t in enumerate(where):
        one = contexts(hourly, SPEC, codec.warm_up, np.array([t]))
        ids, state = codec.encode(one.closes, one.times, SPEC.context)
        assert rows[n, : SPEC.context].tolist() == ids[0].tolist()
        sigma, variance = state.volatility.sigma(codec.scale)[0], 0.0
        for h in range(1, SPEC.horizon + 1):
            variance += (sigma * codec.factors(one.ahead[:, h - 1])[0]) ** 2
            move = hourly.closes[t + h] / hourly.closes[t] - 1
            wanted = 1 if abs(move) <= 0.5 * math.sqrt(variance) else 2 if move > 0 else 0
            assert rows[n, SPEC.context + h - 1] == wanted


@FROZEN_OR_NOT
def test_the_forecast_is_the_bases_but_for_the_chance_of_a_rise(tiny_base, tmp_path, eurusd, options):
    model, base = checkpoint(tiny_base, tmp_path / "direction", options)
    forecaster, _ = load_checkpoint(tmp_path / "direction", SAMPLING)
    save_checkpoint(
        tmp_path / "untuned", load_model(base), "untuned", method("untuned").options(), SPEC, base.codec, str(tiny_base)
    )
    untuned, _ = load_checkpoint(tmp_path / "untuned", SAMPLING)
    where = np.array([900, 3000, 4100])
    inputs, y = contexts(eurusd, SPEC, base.codec.warm_up, where), targets(eurusd, SPEC, where)
    ours, theirs = forecaster.predict(inputs), untuned.predict(inputs)
    assert ours.paths.tobytes() == theirs.paths.tobytes()
    assert ours.crps(y).tobytes() == theirs.crps(y).tobytes()
    for name in ("mean", "mean_se", "quantiles", "sigma"):
        assert getattr(ours.forecasts, name).tobytes() == getattr(theirs.forecasts, name).tobytes()

    ids, _ = base.codec.encode(inputs.closes, inputs.times, SPEC.context)
    inner = model.base if model.tuned is None else model.tuned
    with torch.no_grad():
        hidden = inner.transformer(input_ids=torch.from_numpy(ids)).last_hidden_state[:, -1].numpy().astype(np.float64)
    weight, bias = (value.detach().numpy().astype(np.float64) for value in (model.head.weight, model.head.bias))
    scores = np.exp(hidden @ weight.T + bias).reshape(3, SPEC.horizon, 3)
    chance = scores / scores.sum(axis=2, keepdims=True)
    assert np.ptp(chance) > 0.5
    assert ours.forecasts.p_up == pytest.approx(chance[..., 2] + chance[..., 1] / 2, abs=1e-5)
    assert (ours.forecasts.p_up_se == 0).all()
    if options.train_base:
        assert (inner.transformer.wte.weight != model.base.transformer.wte.weight).all()


def test_a_window_has_the_same_bytes_alone_and_among_others(tiny_base, tmp_path, eurusd):
    _, base = checkpoint(tiny_base, tmp_path / "direction", OPTIONS)
    where = np.arange(900, 900 + 230)  # more than two tiles
    many = contexts(eurusd, SPEC, base.codec.warm_up, where)
    together = [
        load_checkpoint(tmp_path / "direction", replace(SAMPLING, threads=threads))[0].predict(many).forecasts.p_up
        for threads in (1, 2)
    ]
    assert together[0].tobytes() == together[1].tobytes()
    forecaster, _ = load_checkpoint(tmp_path / "direction", SAMPLING)
    for n in (0, 77, 229):
        alone = forecaster.predict(contexts(eurusd, SPEC, base.codec.warm_up, where[n : n + 1]))
        assert alone.forecasts.p_up.tobytes() == together[0][n : n + 1].tobytes()


def test_the_loss_is_the_mean_cross_entropy_over_windows_and_steps(tiny_base):
    torch.manual_seed(0)
    model = new_model(str(tiny_base), "direction", OPTIONS).eval()
    rng = np.random.default_rng(0)
    tokens, classes = rng.integers(0, 31, (6, 10)), rng.integers(0, 3, (6, 4))
    with torch.no_grad():
        found = METHOD.plan(model, OPTIONS, 1).loss(model, torch.from_numpy(np.concatenate([tokens, classes], axis=1)))
        logits = model(torch.from_numpy(tokens), classify=True).logits.double().numpy()
    losses = [
        math.log(sum(math.exp(x) for x in logits[n, h])) - logits[n, h, classes[n, h]]
        for n in range(6)
        for h in range(4)
    ]
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-6)


def learnable(count=240):
    """Rows whose classes follow from the last token, the same way up at odd steps and the other way round at even."""
    rng = np.random.default_rng(4)
    tokens = rng.integers(0, 31, (count, 10))
    last = rng.integers(0, 3, (count, 1))
    tokens[:, -1:] = 15 * last
    return np.concatenate([tokens, last, 2 - last, last, 2 - last], axis=1)


@FROZEN_OR_NOT
def test_it_learns_what_can_be_learnt_and_resumes_to_the_last_bit(tiny_base, tmp_path, options):
    rows = learnable()
    data = TrainingData(rows[:200], rows[200:], SPEC.context)

    def run(steps_at_once, state):
        torch.manual_seed(1)
        model = new_model(str(tiny_base), "direction", options)
        plan = METHOD.plan(model, options, 120)
        for stop in steps_at_once:  # 0 is to the end
            settings = TrainingOptions(steps=120, batch_size=32, evaluate_every=20, min_steps=120, warm_up=0.0)

            def report(step, *_, stop=stop):
                if step == stop:
                    raise KeyboardInterrupt

            try:
                result = train(model, data, settings, 0.02, 2, state, report, plan)
            except KeyboardInterrupt:
                torch.manual_seed(1)
                model = new_model(str(tiny_base), "direction", options)
                plan = METHOD.plan(model, options, 120)
        return model, result

    whole, result = run([0], tmp_path / "whole.safetensors")
    broken, again = run([50, 0], tmp_path / "broken.safetensors")
    assert [row["validation_loss"] for row in result.history] == [row["validation_loss"] for row in again.history]
    for name, value in whole.state_dict().items():
        assert value.numpy().tobytes() == broken.state_dict()[name].numpy().tobytes(), name
    losses = [row["validation_loss"] for row in result.history]
    assert losses[0] > 0.95 * math.log(3)
    assert min(losses) < 0.6 * math.log(3)
    with torch.no_grad():  # what the history says of the weights that are left in the model
        own = METHOD.plan(whole, options, 1).loss(whole.eval(), torch.from_numpy(rows[200:]))
    assert own.item() == pytest.approx(min(losses), rel=1e-6)


def test_the_copy_of_the_base_takes_smaller_steps_than_the_head(tiny_base):
    options = replace(OPTIONS, train_base=True, base_rate=0.05)
    model = new_model(str(tiny_base), "direction", options)
    rates = METHOD.plan(model, options, 1).rates
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained - set(rates) == {"head.weight", "head.bias"}
    assert {rates[name] for name in trained & set(rates)} == {0.05}
    assert METHOD.plan(new_model(str(tiny_base), "direction", OPTIONS), OPTIONS, 1).rates == {}


def test_a_head_of_the_tokens_own_is_not_trained(tiny_base):
    from transformers import GPT2LMHeadModel

    config = load_model(find_base(str(tiny_base))).config
    config.tie_word_embeddings = False
    model = DirectedGPT2(GPT2LMHeadModel(config), replace(OPTIONS, train_base=True))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert "tuned.lm_head.weight" not in trained
    assert {"tuned.transformer.wte.weight", "head.weight"} < trained


@pytest.mark.parametrize("wrong", [{"band": -0.1}, {"dropout": 1.0}, {"base_rate": 0.0}, {"horizon": -1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} is"):
        DirectionOptions(**wrong)


def study_of(base, **changes):
    values = {
        "name": "heads", "series": ["ecb:EURUSD"], "base": str(base), "methods": ["direction"],
        "baselines": ["random-walk"], "benchmarks": [], "windows": {"context": 10, "horizon": 4},
        "codec": {"half_lives": [3.0], "weights": [1.0]},
        "split": {
            "train_start": "2018-01-01", "validation_start": "2019-01-01", "test_start": "2019-07-01",
            "test_end": "2020-01-01",
        },
        "training": {"steps": 4, "evaluate_every": 2, "min_steps": 4, "batch_size": 4},
        "sampling": {"paths": 8}, "trading": {"signal": "probability", "probability_margin": 0.0},
    }  # fmt: skip
    return study_from(values | changes)


def test_the_horizon_is_the_studys(tiny_base):
    study = study_of(tiny_base)
    assert study.options_of("direction").horizon == 4
    assert study_from(json.loads(json.dumps(as_plain(study)))).options_of("direction") == study.options_of("direction")
    other = study_of(tiny_base, method={"direction": {"horizon": 3}})
    with pytest.raises(ConfigError, match=r"method.direction.horizon is 3, windows.horizon 4; leave"):
        other.options_of("direction")
    with pytest.raises(ConfigError, match="give the number of steps"):
        new_model(str(tiny_base), "direction", DirectionOptions())


def test_other_codecs_and_horizons_are_refused(tiny_base, tmp_path, eurusd):
    where = np.array([900])
    inputs, y = contexts(eurusd, SPEC, 60, where), targets(eurusd, SPEC, where)
    with pytest.raises(ConfigError, match="'bins' only; take another method, or a base of that codec"):
        OBJECTIVE.rows(inputs, y, DigitsCodec(), SPEC.context, OPTIONS)
    _, base = checkpoint(tiny_base, tmp_path / "direction", OPTIONS)
    forecaster, _ = load_checkpoint(tmp_path / "direction", SAMPLING)
    with pytest.raises(ConfigError, match="trained for 4 steps, 3 are asked"):
        forecaster.predict(contexts(eurusd, WindowSpec(10, 3), base.codec.warm_up, where))
    settings = read_json(tmp_path / "direction" / "model.json")
    write_json(tmp_path / "direction" / "model.json", settings | {"options": settings["options"] | {"horizon": 3}})
    with pytest.raises(CheckpointError, match=r"direction.safetensors does not fit"):
        load_checkpoint(tmp_path / "direction", SAMPLING)


@pytest.fixture(scope="module")
def finished(tiny_base, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    study = study_of(tiny_base)
    assert run_study(study, runs).failed == {}
    return study, runs / "heads" / "EURUSD-D1"


def test_rows_of_a_study_end_where_the_next_part_begins(tiny_base, eurusd):
    study = study_of(tiny_base)
    prepared = prepare(study, eurusd)
    data = prepared.training_data(eurusd, study, "direction")
    assert len(data.train) == len(prepared.split.train)
    assert data.train.shape[1] == data.validation.shape[1] == 14
    assert set(np.unique(data.train[:, 10:])) == {0, 1, 2}
    plain = prepared.training_data(eurusd, study, "untuned")
    assert (data.train[:, :10] == plain.train[:, :10]).mean() > 0.99  # sigma's window is longer by the targets
    assert (np.asarray(data.context) == 10).all()


def test_figures_of_a_study_are_those_of_its_forecasts(finished, eurusd):
    study, cells = finished
    paths = CellPaths(cells / "direction" / "1")
    assert "classification" not in read_json(cells / "random-walk" / "0" / "forecast.json")
    found = read_json(paths.forecast)["classification"]
    prepared = prepare(study, eurusd)
    forecaster, spec = load_checkpoint(paths.checkpoint, study.sampling)

    def part(where):
        inputs, y = contexts(eurusd, spec, forecaster.warm_up, where), targets(eurusd, spec, where)
        rows = OBJECTIVE.rows(inputs, y, prepared.codec, spec.context, study.options_of("direction"))
        encoded = prepared.codec.encode(inputs.closes, inputs.times, spec.context)
        return forecaster.chances(inputs, encoded), rows[:, spec.context :]

    shares = class_shares(part(prepared.split.train)[1])
    assert found["training_shares"] == shares.tolist()
    assert found["test"] == classification_figures(*part(prepared.split.test), shares)
    assert found["validation"] == classification_figures(*part(prepared.split.validation[::4]), shares, spacing=4)
    assert found["test"]["overall"]["rows"] == 4 * len(prepared.split.test)
    table = pd.read_parquet(paths.forecasts)
    chance = part(prepared.split.test)[0]
    assert table["p_up"].tolist() == (chance[..., 2] + chance[..., 1] / 2).reshape(-1).tolist()


def test_its_chances_are_traded(finished):
    _, cells = finished
    record = read_json(cells / "direction" / "1" / "backtest.json")
    assert record["signal"] == "probability"
    assert record["figures"]["exposure"] > 0.5


def test_the_report_shows_the_figures(finished, tmp_path):
    _, cells = finished
    page = write_report(cells.parent, tmp_path).read_text(encoding="utf-8")
    found = read_json(cells / "direction" / "1" / "forecast.json")["classification"]["test"]["overall"]
    for text in (page, (tmp_path / "report.md").read_text(encoding="utf-8")):
        assert "Direction: down, flat or up" in text
        for figure in ("accuracy", "no_skill_accuracy", "macro_f1"):
            assert f"{100 * found[figure]:.1f} %" in text


def test_the_newest_forecast_of_a_run(finished, capsys):
    _, cells = finished
    assert main(["forecast", str(cells / "direction" / "1"), "--latest", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert len(steps) == 4
    assert all(0 < step["p_up"] < 1 and step["q05"] < step["mean"] < step["q95"] for step in steps)
