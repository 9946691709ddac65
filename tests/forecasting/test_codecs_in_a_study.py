"""Bases of digits and of text through a whole study, the command line and the live service."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from number_tokenizers import train_small
from torch.nn import functional as F

from bridge.desk import Desk, forecast_jobs
from bridge.messages import Bars, Forecast, Hello
from bridge.service import House, Now, Session, handle
from forecasting.base import EMBEDDED_DIGITS, check_length, find_base, save_base
from forecasting.checkpoint import load_checkpoint, load_tuned
from forecasting.codecs import CODECS, DigitsCodec, TextCodec, codec_from_dict
from forecasting.codecs.fit import CodecOptions, fit_codec, scale_codec
from forecasting.codecs.rows import PADDING, padded, rows_of
from forecasting.errors import CheckpointError, ConfigError
from forecasting.files import read_json
from forecasting.log_score import log_scores, summary
from forecasting.sampler import SamplingOptions
from forecasting.train import TrainingData, TrainingOptions, target_loss, train
from forecasting.windows import WindowSpec, contexts, targets
from strategies.rules import TradingRules
from tunetrade.cli import main
from tunetrade.config import study_from
from tunetrade.layout import CellPaths
from tunetrade.prepared import prepare
from tunetrade.study import run_study

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = WindowSpec(context=12, horizon=3)
SCALE = {"half_lives": (3.0,), "weights": (1.0,)}
PATHS = 8
METHODS = ("untuned", "full")


def save_tiny(folder, codec, positions):
    """A base with large random weights and an early cut-off."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=codec.vocabulary, n_positions=positions, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.3, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip
    save_base(folder, model, codec, {"name": "tiny", "cutoff": "2000-12-31", "parameters": 1})
    return folder


@pytest.fixture(scope="module")
def text_codec(tmp_path_factory):
    folder = train_small(tmp_path_factory.mktemp("tokenizer"))
    return replace(TextCodec.of_tokenizer(folder / "vocab.json", folder / "merges.txt", 2), **SCALE)


@pytest.fixture(scope="module", params=["digits", "text"])
def base_folder(request, tmp_path_factory, text_codec):
    folder = tmp_path_factory.mktemp("bases") / request.param
    if request.param == "digits":
        return save_tiny(folder, DigitsCodec(digits=2, length=15, **SCALE), 29)
    return save_tiny(folder, text_codec, 70)


def study_of(base, **changes):
    values = {
        "name": "codecs", "series": ["ecb:EURUSD"], "base": str(base), "methods": list(METHODS),
        "baselines": [], "benchmarks": [],
        "windows": {"context": SPEC.context, "horizon": SPEC.horizon},
        "codec": {"half_lives": [3.0], "weights": [1.0]},
        "split": {
            "train_start": "2018-06-01", "validation_start": "2019-01-01", "test_start": "2019-04-01",
            "test_end": "2019-06-01",
        },
        "training": {"steps": 4, "evaluate_every": 2, "min_steps": 4, "learning_rate": 1e-3, "batch_size": 4},
        "sampling": {"paths": PATHS},
    }  # fmt: skip
    return study_from(values | changes)


@pytest.fixture(scope="module")
def finished(base_folder, tmp_path_factory):
    """Study, the folder its cells lie in, and the first run's outcome."""
    runs = tmp_path_factory.mktemp("runs")
    study = study_of(base_folder)
    return study, runs / "codecs" / "EURUSD-D1", run_study(study, runs)


def folder_of(cells, method):
    return cells / method / ("1" if method == "full" else "0")


def test_every_cell_is_done_and_a_second_run_has_nothing_to_do(finished):
    study, cells, outcome = finished
    assert outcome.failed == {}
    assert len(outcome.done) == 2
    again = run_study(study, cells.parents[1])
    assert (again.done, set(again.skipped)) == ((), set(outcome.done))


@pytest.mark.parametrize("method", METHODS)
def test_forecasts_are_finite_and_have_exactly_the_closes_asked_for(finished, method):
    _, cells, _ = finished
    paths = CellPaths(folder_of(cells, method))
    table = pd.read_parquet(paths.forecasts)
    assert np.isfinite(table.drop(columns=["y", "crps", "crps_noise"]).select_dtypes(float).to_numpy()).all()
    assert table.groupby("cutoff")["h"].apply(list).map(lambda steps: steps == [1, 2, 3]).all()
    assert (table[["mean", "q05", "q95"]] > 0).all().all()
    assert table["cutoff"].nunique() == read_json(paths.forecast)["origins"] > 20
    codec = codec_from_dict(read_json(paths.checkpoint / "codec.json"))
    if isinstance(codec, TextCodec):
        assert (codec.digits, codec.integer_digits) == (5, 2)  # the instrument's; one more than the training part has
    else:
        assert codec.length == 15


def test_training_moved_the_model(finished):
    _, cells, _ = finished
    tables = [pd.read_parquet(CellPaths(folder_of(cells, method)).forecasts) for method in METHODS]
    assert (tables[0]["mean"] != tables[1]["mean"]).mean() > 0.5
    history = read_json(CellPaths(folder_of(cells, "full")).train)["history"]
    assert history[-1]["validation_loss"] != history[0]["validation_loss"]


@pytest.mark.parametrize("method", METHODS)
def test_the_log_score_is_that_of_the_validation_part(finished, eurusd, method):
    study, cells, _ = finished
    paths = CellPaths(folder_of(cells, method))
    prepared, tuned = prepare(study, eurusd), load_tuned(paths.checkpoint)
    cutoffs = prepared.split.validation[:: SPEC.horizon]
    y = targets(eurusd, SPEC, cutoffs)
    room = find_base(study.base).positions
    slow = [
        log_scores(tuned.logits, tuned.codec, contexts(eurusd, SPEC, tuned.codec.warm_up, c), row, 12, room)
        for c, row in zip(cutoffs[:, None], y[:, None], strict=True)
    ]
    told = read_json(paths.forecast)["log_score"]
    assert told["closes"] == y.size == 3 * len(cutoffs)
    assert told["mean"] == pytest.approx(summary(np.concatenate(slow)).mean, rel=1e-12)
    assert math.isfinite(told["mean"])


def test_the_latest_forecast_at_the_command_line(finished, eurusd, capsys):
    study, cells, _ = finished
    run = folder_of(cells, "full")
    assert main(["forecast", str(run), "--latest", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    forecaster, spec = load_checkpoint(run / "checkpoint", study.sampling)
    last = contexts(eurusd, spec, forecaster.warm_up, np.array([len(eurusd) - 1]))
    assert [step["mean"] for step in told["steps"]] == forecaster.predict(last).forecasts.mean[0].tolist()


def test_a_live_forecast_is_the_one_made_offline(finished, eurusd):
    study, cells, _ = finished
    forecaster, spec = load_checkpoint(folder_of(cells, "full") / "checkpoint", study.sampling)
    rules = TradingRules()
    point = eurusd.instrument.point
    desk = Desk(
        "EURUSD-D1",
        "full/1",
        forecaster,
        spec,
        eurusd.calendar,
        86_400,
        rules.signal_rules,
        1e-4,
        point,
        close_only=True,
    )
    inputs = contexts(eurusd, spec, forecaster.warm_up, np.array([len(eurusd) - 2, len(eurusd) - 1]))
    offline = forecaster.predict(inputs).forecasts.row(1)
    house = House(5, {desk.facts.key: desk.facts})
    hello = Hello(unique_id="EURUSD-D1", client="test", symbol="EURUSD", tf_sec=86_400, digits=5, point=point, seq=1)
    session = handle(house, Session(), hello, Now(7)).session
    times_ms = tuple((eurusd.times[-desk.history :].astype(np.int64) // 1_000_000).tolist())
    closes, none = tuple(eurusd.closes[-desk.history :].tolist()), (0.0,) * desk.history
    sent = Bars(
        unique_id="EURUSD-D1", restart=True, times_ms=times_ms, opens=closes, highs=closes, lows=closes, closes=closes,
        volumes=none, spreads=none, equity=1e4, balance=1e4, epoch=5, seq=2,
    )  # fmt: skip
    (reply,) = forecast_jobs([handle(house, session, sent, Now(7)).job], {desk.facts.key: desk})
    assert isinstance(reply, Forecast)
    assert reply.mean == tuple(offline.mean.tolist())
    assert reply.input_sha == offline.input_sha


def test_windows_that_do_not_fit_are_refused_before_the_work(base_folder):
    base, long = find_base(str(base_folder)), WindowSpec(context=13, horizon=3)
    if isinstance(base.codec, DigitsCodec):
        with pytest.raises(ConfigError, match=r"makes 31 tokens, and the base holds 29; give at most 12"):
            check_length(base, long)
        with pytest.raises(ConfigError, match="shorten both"):
            check_length(base, WindowSpec(context=12, horizon=14))
    else:
        check_length(base, WindowSpec(context=4000, horizon=3))  # cut to what fits
        with pytest.raises(ConfigError, match="shorten both"):
            check_length(base, WindowSpec(context=12, horizon=7))


def test_the_base_of_digits_has_a_name_and_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setitem(find_base.__globals__["NAMED"], "embedded-digits", tmp_path / "none")
    monkeypatch.setattr("forecasting.base.EMBEDDED_DIGITS", tmp_path / "none")
    with pytest.raises(CheckpointError, match="tunetrade pretrain --codec digits"):
        find_base("embedded-digits")
    codec = DigitsCodec(digits=2, length=15, **SCALE)
    save_tiny(tmp_path / "none", codec, 29)
    assert find_base("embedded-digits").codec == codec
    assert EMBEDDED_DIGITS.name == "embedded_digits"


def test_every_codec_comes_back_from_its_settings(text_codec):
    for codec in (CODECS["bins"](), DigitsCodec(digits=3, **SCALE), text_codec):
        again = codec_from_dict(json.loads(json.dumps(codec.as_dict())))
        assert again == codec
        assert type(again) is CODECS[codec.as_dict()["kind"]]
    with pytest.raises(CheckpointError, match=r"unknown codec 'digit' \(did you mean 'digits'\?\)"):
        codec_from_dict({"kind": "digit"})


def test_scale_and_room_fit_the_series(hourly, text_codec):
    digits = scale_codec(DigitsCodec(length=20), hourly, CodecOptions(), 30)
    assert (digits.length, digits.half_lives, digits.dof) == (30, (6.0, 48.0, 240.0), 5.0)
    assert scale_codec(DigitsCodec(length=64), hourly, CodecOptions(), 30).length == 64
    assert fit_codec(digits, hourly, CodecOptions(), 0, 99) == digits
    text = scale_codec(replace(text_codec, integer_digits=12), hourly, CodecOptions(), 30)
    assert (text.digits, text.integer_digits, text.dof) == (5, 10, 5.0)
    dear = replace(hourly, frame=hourly.frame.assign(close=np.where(np.arange(len(hourly)) < 100, 12.0, 1234.0)))
    assert fit_codec(text, dear, CodecOptions(), 0, 99).integer_digits == 3
    assert fit_codec(text, dear, CodecOptions(), 0, 100).integer_digits == 5


def test_baselines_keep_their_weekly_pattern_beside_a_base_without_one(hourly, tmp_path):
    base = save_tiny(tmp_path / "d", DigitsCodec(digits=2, length=15, **SCALE), 29)
    parts = {"validation_start": "2016-04-01", "test_start": "2016-05-15"}
    prepared = prepare(study_of(base, split=parts), hourly)
    assert isinstance(prepared.codec, DigitsCodec)
    assert len(prepared.hours.profile) == 168
    first = prepared.split.train[0] - prepared.codec.warm_up - SPEC.context + 1
    part = slice(max(first, 0), prepared.split.train[-1] + SPEC.horizon + 1)
    wanted = prepared.hours.with_profile(hourly.closes[part], hourly.times[part])
    assert prepared.hours.profile == wanted.profile


@pytest.fixture
def windows(text_codec, eurusd):
    """Twenty windows as closes and times, [20, M + C + H]."""
    cutoffs = np.arange(3000, 3020)
    inputs = contexts(eurusd, SPEC, text_codec.warm_up, cutoffs)
    y = targets(eurusd, SPEC, cutoffs)
    return np.concatenate([inputs.closes, y], axis=1), np.concatenate([inputs.times, inputs.ahead], axis=1)


@pytest.mark.parametrize("positions", [45, 60, 500])
def test_rows_of_text_are_its_last_closes_and_all_targets(text_codec, windows, positions):
    codec = replace(text_codec, digits=4, integer_digits=2)
    closes, times = windows
    rows, given = rows_of(codec, closes, times, SPEC.context, SPEC.horizon, positions)
    whole = 0
    for row, count, window in zip(rows, given, closes, strict=True):
        texts = [f" {close:.4f}" for close in window[-SPEC.context - SPEC.horizon :]]
        assert len(row) - 1 <= positions
        assert codec.text_of(row[count:]) == "".join(texts[-SPEC.horizon :])
        kept = codec.text_of(row[:count])
        closes_kept = len(kept.split(" ")) - 1
        assert kept == "".join(texts[SPEC.context - closes_kept : SPEC.context])
        whole += closes_kept == SPEC.context
        if closes_kept < SPEC.context:  # another close would not have left room for the longest forecast
            more = len(codec.tokenize(texts[SPEC.context - closes_kept - 1])) + count
            assert more + codec.most_tokens(SPEC.horizon) - 1 > positions
    assert (whole == len(rows)) == (positions == 500)


def test_rows_of_digits_are_whole_windows(windows):
    codec = DigitsCodec(digits=2, length=15, **SCALE)
    rows, given = rows_of(codec, *windows, SPEC.context, SPEC.horizon, 29)
    assert given == [24] * 20
    assert np.array_equal(rows, codec.encode(*windows, 15)[0])


def test_shorter_rows_are_filled_up():
    assert padded([np.array([1, 2, 3]), np.array([4])]).tolist() == [[1, 2, 3], [4, PADDING, PADDING]]


class Recorder(torch.nn.Module):
    """A model whose logits are a table of the token before; it remembers what it was given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(5, 5))

    def forward(self, input_ids, **_):
        return type("Output", (), {"logits": self.table[input_ids]})


ROWS = [np.array([1, 2, 3, 4, 0, 1]), np.array([3, 3, 1]), np.array([0, 4, 2, 2])]


def nats(table, row, first):
    return [-torch.log_softmax(table[a], 0)[b].item() for a, b in zip(row[first - 1 : -1], row[first:], strict=True)]


def test_validation_counts_the_targets_of_each_row_and_no_padding():
    model, given = Recorder(), np.array([4, 1, 2])
    each = [nats(model.table.detach(), row, first) for row, first in zip(ROWS, given, strict=True)]
    wanted = np.mean(np.concatenate(each))
    for rows in (1, 2, 64):
        assert target_loss(model, padded(ROWS), given, rows) == pytest.approx(wanted, rel=1e-6)


def test_padding_has_no_part_in_training(tmp_path):
    """A step's loss is the mean over real tokens, and as much padding as one likes changes neither it nor the step."""
    data = TrainingData(padded(ROWS), padded(ROWS), np.array([1, 1, 1]))
    wider = np.concatenate([data.train, np.full((3, 7), PADDING)], axis=1)
    results = []
    for name, rows in (("a", data.train), ("b", wider)):
        model = Recorder()
        losses: list[float] = []
        report = partial(lambda kept, _, loss, __: kept.append(loss), losses)
        options = TrainingOptions(steps=1, batch_size=3, evaluate_every=1, min_steps=1)
        begin = model.table.detach().clone()
        train(model, replace(data, train=rows), options, 0.1, 1, tmp_path / name, report)
        results.append((losses, model.table.detach().clone()))
    every = np.mean(np.concatenate([nats(begin, row, 1) for row in ROWS]))
    assert results[0][0] == pytest.approx([every], rel=1e-6)
    assert results[1][0] == pytest.approx([every], rel=1e-6)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-5)
    assert not torch.equal(results[0][1], begin)
    assert F.cross_entropy(torch.zeros(1, 5), torch.tensor([PADDING]), reduction="sum") == 0


def test_text_is_cut_for_the_log_score_as_for_a_forecast(text_codec, eurusd, tmp_path):
    """With few positions the score is that of the shorter context, given as such."""
    codec = replace(text_codec, digits=4, integer_digits=2)
    base = find_base(str(save_tiny(tmp_path / "t", codec, 64)))
    from forecasting.base import load_model

    model = load_model(base).eval()
    inputs = contexts(eurusd, SPEC, codec.warm_up, np.array([3000]))
    y = targets(eurusd, SPEC, np.array([3000]))

    def logits(ids):
        assert len(ids) <= positions
        return model(ids[None]).logits[0]

    positions = 45
    cut = log_scores(logits, codec, inputs, y, SPEC.context, positions)
    rows, given = rows_of(
        codec, np.concatenate([inputs.closes, y], axis=1), np.empty((1, 0)), SPEC.context, SPEC.horizon, positions
    )
    kept = len(codec.text_of(rows[0][: given[0]]).split(" ")) - 1
    assert kept < SPEC.context
    assert cut.tolist() == log_scores(logits, codec, inputs, y, kept).tolist()


def test_every_method_trains_on_text_and_forecasts(text_codec, tmp_path, eurusd):
    from forecasting.checkpoint import new_model, save_checkpoint
    from forecasting.methods import METHODS as EVERY

    most = max(method.taken(method.options()) for method in EVERY.values())  # positions of virtual tokens
    base = save_tiny(tmp_path / "text", text_codec, 70 + most)
    study = study_of(base, methods=list(EVERY))
    prepared = prepare(study, eurusd)
    data = prepared.training_data(eurusd, study)
    options = TrainingOptions(steps=2, batch_size=4, evaluate_every=2, min_steps=2)
    for name, method in EVERY.items():
        if method.objective:  # of the codec bins only
            continue
        torch.manual_seed(1)
        model = new_model(str(base), name, method.options())
        if method.trains:
            result = train(model, data, options, 1e-3, 1, tmp_path / f"{name}.state")
            assert math.isfinite(result.history[-1]["validation_loss"])
        save_checkpoint(tmp_path / name, model, name, method.options(), SPEC, prepared.codec, str(base))
        forecaster, _ = load_checkpoint(tmp_path / name, SamplingOptions(PATHS, threads=1))
        inputs = contexts(eurusd, SPEC, forecaster.warm_up, prepared.split.test[:2])
        paths = forecaster.predict(inputs).paths
        assert paths.shape == (2, PATHS, SPEC.horizon)
        assert np.isfinite(paths).all()
