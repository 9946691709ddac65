"""The recipe of the base on a handful of currencies and a minute model."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from forecasting.bars import load_bars
from forecasting.base import EMBEDDED, find_base, load_model, pretrain
from forecasting.base.pretrain import (
    PretrainOptions,
    batch,
    corpus,
    evaluate_loss,
    learning_rate_at,
    next_token_loss,
    simulated,
    smeared,
    smeared_loss,
    smooth_embeddings,
)
from forecasting.base.synthetic import closes
from forecasting.codecs import BinsCodec
from forecasting.errors import ConfigError
from forecasting.files import read_json
from forecasting.sources import ecb

pytestmark = pytest.mark.usefixtures("one_thread")

CURRENCIES = ["USD", "JPY", "GBP", "DKK"]
CUTOFF = "2001-12-31"
OPTIONS = PretrainOptions(
    cutoff=CUTOFF, validation_end="2002-12-31", layers=1, width=8, heads=2, length=32, batch=4, steps=3
)


@pytest.fixture
def few(monkeypatch):
    """The rates of four currencies to the euro, one of them pegged to it; gives a way to replace them."""

    def use(table):
        monkeypatch.setattr(ecb, "rates", lambda: table)
        monkeypatch.setattr(pretrain, "rates", lambda: table)
        monkeypatch.setattr(pretrain, "CURRENCIES", tuple(table.columns))

    real = ecb.rates()[CURRENCIES].loc[:"2003"]
    use(real)
    return real, use


def test_pretraining_gives_the_same_bytes_twice(few, tmp_path):
    seen = []
    cards = [
        pretrain.pretrain(OPTIONS, tmp_path / name, lambda step, loss: seen.append((step, loss))) for name in ("a", "b")
    ]
    for name in ("config.json", "model.safetensors", "codec.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert [step for step, _ in seen] == [0, 1, 2, 0, 1, 2]
    assert seen[:3] == seen[3:]
    volatile = {"seconds": None}
    assert cards[0] | volatile == cards[1] | volatile == read_json(tmp_path / "a" / "card.json") | volatile
    base = find_base(str(tmp_path / "a"))
    assert base.cutoff == CUTOFF
    assert sum(value.numel() for value in load_model(base).parameters()) == cards[0]["parameters"]


def test_another_seed_gives_another_base(few, tmp_path):
    for seed in (1, 2):
        pretrain.pretrain(replace(OPTIONS, seed=seed), tmp_path / f"{seed}")
    assert find_base(str(tmp_path / "1")).sha != find_base(str(tmp_path / "2")).sha


def test_nothing_after_the_cut_off_is_in_the_corpus(few):
    real, use = few
    before = corpus(BinsCodec(), "1999-01-01", CUTOFF, 32)
    altered = real.copy()
    rng = np.random.default_rng(0)
    later = altered.index > CUTOFF
    altered[later] *= np.exp(rng.normal(size=(later.sum(), len(CURRENCIES))))
    use(altered)
    after = corpus(BinsCodec(), "1999-01-01", CUTOFF, 32)
    assert after.symbols == before.symbols
    assert after.tokens.tobytes() == before.tokens.tobytes()
    altered.iloc[np.flatnonzero(~later)[-1]] *= np.linspace(1.1, 1.2, len(CURRENCIES))  # the last day before is in
    use(altered)
    assert corpus(BinsCodec(), "1999-01-01", CUTOFF, 32).tokens.tobytes() != before.tokens.tobytes()


def test_the_corpus_is_the_tokens_of_each_cross_but_not_of_pegs(few):
    """DKK is held to the euro, but within a band, so it stays; a rate that is really held is left out."""
    real, use = few
    held = real.assign(JPY=real["USD"] * 2)
    use(held)
    codec = BinsCodec()
    found = corpus(codec, "1999-01-01", CUTOFF, 32)
    assert found.symbols == ("EURUSD", "EURJPY", "EURGBP", "EURDKK", "USDGBP", "USDDKK", "JPYGBP", "JPYDKK", "GBPDKK")
    for symbol, (begin, end) in zip(found.symbols, found.spans, strict=True):
        bars = load_bars(f"ecb:{symbol}")
        stop = int(np.searchsorted(bars.times, np.datetime64("2002-01-01")))
        wanted, _ = codec.encode(bars.closes[None, :stop], bars.times[None, :stop], stop - codec.warm_up)
        assert (found.tokens[begin:end] == wanted[0]).all()
    assert found.spans[-1, 1] == len(found.tokens)


def test_validation_begins_after_the_cut_off_and_is_not_blind(few):
    found = corpus(BinsCodec(), "2002-01-01", "2002-12-31", 32)
    days = ecb.rates().loc["2002"].index
    assert (np.diff(found.spans) == len(days)).all()


def test_a_corpus_without_a_series_is_refused(few):
    with pytest.raises(ConfigError, match="no cross rate has 9999 tokens"):
        corpus(BinsCodec(), "1999-01-01", CUTOFF, 9999)


def test_mirrored_rows_are_the_tokens_of_the_inverse_rate(few):
    """Up to the curvature of simple returns: 1 / (1 + r) - 1 is -r + r^2, which moves few tokens, and those hardly."""
    codec = BinsCodec()
    tokens = []
    for pair in ("EURUSD", "USDEUR"):
        bars = load_bars(f"ecb:{pair}")
        tokens.append(codec.encode(bars.closes[None], bars.times[None], len(bars) - codec.warm_up)[0][0])
    apart = np.abs((codec.bins - 1 - tokens[0]) - tokens[1])
    assert apart.max() <= 2
    assert np.mean(apart > 0) < 0.3
    assert np.mean(np.abs(tokens[0] - tokens[1]) > 2) > 0.9


def rows_of(data):
    return {data.tokens[i : i + 32].tobytes() for begin, end in data.spans for i in range(begin, end - 31)}


def test_rows_are_stretches_of_one_series_in_the_shares_asked_for_each_with_its_mirror(few, monkeypatch):
    monkeypatch.setattr(pretrain, "SIMULATIONS", 5)
    real, made = corpus(BinsCodec(), "1999-01-01", CUTOFF, 32), simulated(BinsCodec(), OPTIONS)
    real_rows, made_rows = rows_of(real), rows_of(made)
    options = replace(OPTIONS, batch=8, synthetic=0.75)
    for step in range(25):
        rows = batch(real, made, options, step).numpy()
        assert rows[0].tobytes() in real_rows
        assert all(row.tobytes() in made_rows for row in rows[1:4])
        assert (rows[4:] == real.bins - 1 - rows[:4]).all()
    assert (batch(real, made, options, 1).numpy() == batch(real, made, options, 1).numpy()).all()
    assert (batch(real, made, options, 1).numpy() != batch(real, made, options, 2).numpy()).any()


def test_simulated_series_depend_on_the_seed_only(monkeypatch):
    monkeypatch.setattr(pretrain, "SIMULATIONS", 4)
    one, two = (simulated(BinsCodec(), replace(OPTIONS, seed=seed)) for seed in (1, 2))
    assert (one.tokens == simulated(BinsCodec(), OPTIONS).tokens).all()
    assert (one.tokens != two.tokens).any()
    assert (np.diff(one.spans) == 6 * OPTIONS.length).all()


def test_simulated_closes_are_positive_cluster_and_differ_in_kind():
    made = closes(400, 1500, np.random.default_rng(0))
    assert made.shape == (400, 1500)
    assert (made[:, 0] == 1).all()
    assert (made > 0).all()
    moves = np.abs(np.diff(made) / made[:, :-1])
    spread = moves.mean(axis=1)
    assert spread.max() / spread.min() > 30
    centred = moves - moves.mean(axis=1, keepdims=True)
    memory = (centred[:, 5:] * centred[:, :-5]).mean(axis=1) / (centred**2).mean(axis=1)
    assert np.median(memory) > 0.05
    assert memory.std() > 0.03


def test_smeared_targets_against_a_loop():
    bins, width = 31, 2.5
    slow = np.zeros((bins, bins))
    for true in range(bins):
        for at in range(-bins, 2 * bins):
            inside = -1 - at if at < 0 else 2 * bins - 1 - at if at >= bins else at
            slow[true, inside] += np.exp(-0.5 * ((at - true) / width) ** 2)
    slow /= slow.sum(axis=1, keepdims=True)
    found = smeared(bins, width).numpy()
    assert found == pytest.approx(slow, abs=1e-6)
    assert found.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_a_narrow_smear_is_the_plain_loss(tiny_base):
    model = load_model(find_base(str(tiny_base))).eval()
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 31, (3, 20)))
    with torch.no_grad():
        assert smeared_loss(model, ids, smeared(31, 0.05)).item() == pytest.approx(next_token_loss(model, ids).item())


def test_embeddings_begin_as_smooth_functions_of_the_bin():
    torch.manual_seed(0)
    found = smooth_embeddings(255, 16)
    assert found.std().item() == pytest.approx(0.04, rel=1e-3)
    assert torch.diff(found, dim=0).abs().max() < 0.2 * found.std()


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    options = PretrainOptions(steps=100, learning_rate=1.0)
    rates = [learning_rate_at(step, options) for step in range(101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.1)
    assert (np.diff(rates[5:]) < 0).all()


def test_the_losses_against_a_loop(few, tiny_base):
    base = find_base(str(tiny_base))
    model, data = load_model(base).eval(), corpus(base.codec, "1999-01-01", CUTOFF, 20)
    losses = []
    for begin, end in data.spans:
        for i in range(begin, end - 19, 20):
            row = torch.from_numpy(data.tokens[None, i : i + 20])
            with torch.no_grad():
                logits = torch.log_softmax(model(row).logits[0].double(), 1)
            losses.append(-np.mean([float(logits[t, row[0, t + 1]]) for t in range(19)]))
            assert len(losses) > 1 or next_token_loss(model, row).item() == pytest.approx(losses[0], rel=1e-5)
    assert evaluate_loss(model, data, 20) == pytest.approx(np.mean(losses), rel=1e-5)


def test_validation_ends_two_years_after_the_cut_off_unless_told():
    assert PretrainOptions() == PretrainOptions(cutoff="2014-12-31", validation_end="2016-12-31")
    assert read_json(EMBEDDED / "card.json")["options"] == asdict(PretrainOptions())
    assert PretrainOptions(cutoff="2016-02-29").validation_end == "2018-02-28"
    assert PretrainOptions(cutoff="2001-12-31", validation_end="2002-06-30").validation_end == "2002-06-30"


def test_a_later_cut_off_validates_after_it(few, tmp_path):
    card = pretrain.pretrain(replace(OPTIONS, validation_end=""), tmp_path / "a")
    assert card["validation"].endswith("2002-01-01 to 2003-12-31")
    assert card["options"]["validation_end"] == "2003-12-31"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cutoff": "soon"}, r"pretrain.cutoff is 'soon'; give a date"),
        ({"cutoff": "2014-13-01"}, r"pretrain.cutoff is '2014-13-01'"),
        ({"cutoff": ""}, r"pretrain.cutoff is ''"),
        ({"validation_end": "later"}, r"pretrain.validation_end is 'later'"),
        ({"cutoff": "2018-01-01", "validation_end": "2016-12-31"}, r"validation_end 2016-12-31 is not after"),
    ],
)
def test_dates_that_are_none_or_out_of_order_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        PretrainOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"width": 10, "heads": 4}, {"steps": 0}, {"layers": 0}, {"synthetic": 1.5}, {"smear": 0.0}, {"batch": 3}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="pretrain"):
        PretrainOptions(**wrong)
