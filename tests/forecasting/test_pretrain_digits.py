"""The recipe of the digits base on a handful of currencies and a minute model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from forecasting.bars import load_bars
from forecasting.base import find_base, pretrain, pretrain_digits
from forecasting.base.pretrain import PretrainOptions
from forecasting.codecs.digits import DigitsCodec
from forecasting.decoder import weights_of
from forecasting.errors import ConfigError
from forecasting.files import read_json
from forecasting.sampler import SamplingOptions
from forecasting.sources import ecb
from forecasting.spelling import SpellingForecaster, spelling_decoders
from forecasting.windows import WindowSpec, contexts
from tunetrade.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

CODEC = DigitsCodec(digits=2, length=16, half_lives=(3.0,), weights=(1.0,))
OPTIONS = PretrainOptions(
    cutoff="2001-12-31", validation_end="2002-12-31", layers=1, width=8, heads=2, length=32, batch=4, steps=3
)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The rates of four currencies to the euro, one of them pegged to it; gives a way to replace them."""

    def use(table):
        monkeypatch.setattr(ecb, "rates", lambda: table)
        monkeypatch.setattr(pretrain, "rates", lambda: table)

    real = ecb.rates()[["USD", "JPY", "GBP", "DKK"]].loc[:"2003"]
    use(real)
    return real, use


def test_histories_are_the_closes_of_each_cross_with_their_warm_up():
    data = pretrain_digits.histories(CODEC, "2000-03-01", "2001-12-31")
    assert "EURUSD" in data.symbols
    begin, end = data.spans[data.symbols.index("EURUSD")]
    bars = load_bars("ecb:EURUSD")
    first = int(np.searchsorted(bars.times, np.datetime64("2000-03-01", "ns")))
    stop = int(np.searchsorted(bars.times, np.datetime64("2002-01-01", "ns")))
    assert data.closes[begin:end].tolist() == bars.closes[first - CODEC.warm_up : stop].tolist()


def test_rows_are_the_codec_s_and_reflections_turn_about_the_anchor():
    data = pretrain_digits.histories(CODEC, "1999-01-01", "2001-12-31")
    starts = data.spans[:, 0] + 40
    plain = pretrain_digits.rows_at(CODEC, data, starts, np.zeros(len(starts), dtype=bool))
    closes = np.stack([data.closes[s : s + CODEC.warm_up + 16] for s in starts])
    assert (plain == CODEC.encode(closes, np.empty(0), 16)[0]).all()
    turned = pretrain_digits.rows_at(CODEC, data, starts, np.ones(len(starts), dtype=bool))
    numbers, opposite = (rows.reshape(-1, 16, 2) @ [10, 1] for rows in (plain, turned))
    inner = (numbers > 0) & (numbers < 99)
    assert (np.abs(numbers + opposite - 100)[inner] <= 2).all()
    assert (numbers != opposite).any()


def test_a_batch_is_a_function_of_seed_and_step():
    data = pretrain_digits.histories(CODEC, "1999-01-01", "2001-12-31")
    made = pretrain_digits.simulated(CODEC, OPTIONS)

    def batch(step, **changes):
        return pretrain_digits.batch(CODEC, data, made, replace(OPTIONS, **changes), step)

    assert torch.equal(batch(5), batch(5))
    assert batch(5).shape == (4, 32)
    assert not torch.equal(batch(5), batch(6))
    assert not torch.equal(batch(5), batch(5, seed=2))


def windows_of(data):
    """Every row a batch may draw from these series."""
    starts = np.concatenate([np.arange(a, b - CODEC.warm_up - CODEC.length + 1) for a, b in data.spans])
    sides = (np.full(len(starts), side) for side in (False, True))
    return {row.tobytes() for side in sides for row in pretrain_digits.rows_at(CODEC, data, starts, side)}


def test_the_simulated_share_of_rows_comes_from_simulated_series():
    data = pretrain_digits.histories(CODEC, "1999-01-01", "2001-12-31")
    made = pretrain_digits.simulated(CODEC, OPTIONS)
    few = replace(made, spans=made.spans[:3])
    real, simulated = windows_of(data), windows_of(few)
    for share, of_made in ((0.0, 0), (0.25, 8), (1.0, 32)):
        options = replace(OPTIONS, synthetic=share, batch=32)
        rows = [row.tobytes() for row in pretrain_digits.batch(CODEC, data, few, options, 3).numpy()]
        assert all(row in real for row in rows[: 32 - of_made])
        assert all(row in simulated for row in rows[32 - of_made :])


def test_pretraining_gives_the_same_bytes_twice_and_a_base_that_forecasts(tmp_path, eurusd):
    from transformers import GPT2LMHeadModel

    cards = [pretrain_digits.pretrain_digits(OPTIONS, tmp_path / name, codec=CODEC) for name in ("a", "b")]
    for name in ("config.json", "model.safetensors", "codec.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert cards[0] | {"seconds": 0} == read_json(tmp_path / "a" / "card.json") | {"seconds": 0}
    assert cards[0]["cutoff"] == "2001-12-31"
    assert cards[0]["uniform_loss"] == pytest.approx(np.log(10))
    codec = DigitsCodec.from_dict(read_json(tmp_path / "a" / "codec.json"))
    assert codec == CODEC
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "a", local_files_only=True)
    inputs = contexts(eurusd, WindowSpec(13, 3), codec.warm_up, np.array([700]))
    make = spelling_decoders(weights_of(model), codec, 8, 3)
    paths = SpellingForecaster("a", codec, 13, 32, SamplingOptions(8), make).predict(inputs).paths
    assert np.isfinite(paths).all()


def test_nothing_after_the_cutoff_is_seen_in_training(few, tmp_path):
    real, use = few
    later = real.copy()
    later.loc["2002":] *= np.random.default_rng(0).uniform(0.5, 2, later.loc["2002":].shape)
    for name, table in (("real", real), ("other", later)):
        use(table)
        pretrain_digits.pretrain_digits(OPTIONS, tmp_path / name, codec=CODEC)
    real_model, other_model = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("real", "other"))
    assert real_model == other_model
    cards = [read_json(tmp_path / name / "card.json") for name in ("real", "other")]
    assert cards[0]["validation_loss"] != cards[1]["validation_loss"]


def test_the_loss_falls(tmp_path):
    losses = []
    options = replace(OPTIONS, steps=120, batch=16, width=16, learning_rate=1e-2)
    pretrain_digits.pretrain_digits(options, tmp_path / "x", lambda step, loss: losses.append(loss), CODEC)
    assert np.mean(losses[-20:]) < np.log(10) - 0.2


def test_rows_that_are_not_whole_windows_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="16 closes of 2 digits are 32 tokens"):
        pretrain_digits.pretrain_digits(replace(OPTIONS, length=64), tmp_path / "x", codec=CODEC)


def test_the_command_makes_it(tmp_path, capsys):
    asked = ["pretrain", "--codec", "digits", "--cutoff", "2001-12-31", "--steps", "1", "--out", str(tmp_path / "x")]
    assert main([*asked, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["name"] == "embedded-digits"
    assert card["options"]["steps"] == 1
    assert "smear" not in card["options"]
    base = find_base(str(tmp_path / "x"))
    assert (base.codec, base.cutoff, base.positions) == (DigitsCodec(), "2001-12-31", 256)
