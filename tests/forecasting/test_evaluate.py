from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from asking import asked_for

from forecasting.bars import Bars
from forecasting.base import find_base, load_model
from forecasting.baselines import baseline
from forecasting.codecs import BinsCodec
from forecasting.decoder import weights_of
from forecasting.distributions import noise_of_mse
from forecasting.errors import ConfigError, DataError
from forecasting.evaluate import forbid_seen, latency, naive_scale, rolling_forecasts, table_errors
from forecasting.files import write_parquet
from forecasting.forecaster import PathForecaster
from forecasting.forecasts import QUANTILE_COLUMNS, TABLE_COLUMNS, from_table, to_table
from forecasting.sampler import SamplingOptions, gpt2_decoders
from forecasting.spelling import spelling_forecaster
from forecasting.windows import WindowSpec, contexts, targets

SPEC = WindowSpec(context=10, horizon=3)
CODEC = BinsCodec(half_lives=(5.0,), weights=(1.0,))
NAMES = ("random-walk", "ewma-t", "ar1", "seasonal-naive")


def forecaster(name, bars):
    return baseline(name, asked_for(bars, SPEC, paths=64, codec=CODEC))


@pytest.fixture(scope="module")
def last(eurusd):
    return len(eurusd) - 1


@pytest.fixture(scope="module")
def table(eurusd, last):
    """The last 20 origins: the final ones lack some or all of their truth."""
    return rolling_forecasts(forecaster("ewma-t", eurusd), eurusd, SPEC, np.arange(last - 19, last + 1))


def test_the_random_walks_table_equals_a_loop(eurusd, last):
    positions = np.arange(last - 5, last + 1)
    found = rolling_forecasts(forecaster("random-walk", eurusd), eurusd, SPEC, positions)
    closes, stamps, row = eurusd.closes, eurusd.frame.index, 0
    assert tuple(found.columns) == TABLE_COLUMNS
    for position in positions:
        for h in (1, 2, 3):
            line = found.iloc[row]
            known = position + h <= last
            assert (line.unique_id, line.cutoff, line.h) == ("EURUSD-D1", stamps[position], h)
            assert line["mean"] == line.anchor == line.q05 == line.q95 == closes[position]
            if known:
                assert line.ds == stamps[position + h]
                assert line.y == closes[position + h]
                assert line.crps == abs(closes[position + h] - closes[position])
            else:
                assert line.ds > stamps[-1]
                assert np.isnan(line.y)
                assert np.isnan(line.crps)
            row += 1
    assert row == len(found)


class Sizes:
    """A forecaster that notes how many windows it is asked for at a time."""

    def __init__(self, inner):
        self.inner, self.warm_up, self.seen = inner, inner.warm_up, []

    def predict(self, inputs, progress=None):
        self.seen.append(len(inputs))
        return self.inner.predict(inputs, progress)


def base_forecaster(name):
    """An embedded base, by the sampler of one token a close or by that of several."""
    base, options = find_base(name), SamplingOptions(16, threads=1)
    weights = weights_of(load_model(base))
    if name == "embedded-digits":
        return spelling_forecaster(base.sha, weights, base.codec, SPEC, options)
    return PathForecaster(base.sha, base.codec, SPEC.context, options, gpt2_decoders(weights, 16, SPEC.horizon))


@pytest.mark.parametrize("name", [*NAMES, "embedded", "embedded-digits"])
def test_the_memory_setting_bounds_what_is_held_and_changes_no_byte(eurusd, name):
    forecast = Sizes(base_forecaster(name) if name.startswith("embedded") else forecaster(name, eurusd))

    def by(chunk):
        reports = []
        table = rolling_forecasts(forecast, eurusd, SPEC, np.arange(3000, 3007), reports.append, chunk)
        assert sum(reports) == 7
        return table

    tables = [by(chunk) for chunk in (7, 3, 1)]
    assert forecast.seen == [7] + [3, 3, 1] + [1] * 7
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table, check_exact=True)


def test_truth_is_nan_exactly_where_it_is_not_yet_known(table):
    unknown = table["y"].isna()
    assert unknown.sum() == 3 + 2 + 1
    assert (unknown == table["crps"].isna()).all()
    assert not table[["mean", "anchor", "p_up", *QUANTILE_COLUMNS]].isna().any().any()


def test_errors_leave_unknown_truth_out(table):
    found = table_errors(table, 0.01)
    known = table[table["y"].notna()]
    assert found["overall"]["rows"] == len(known)
    assert found["overall"]["mse"] == pytest.approx(((known["y"] - known["mean"]) ** 2).mean())
    assert found["overall"]["mase"] == pytest.approx((known["y"] - known["q50"]).abs().mean() / 0.01)
    inside = (known["q05"] <= known["y"]) & (known["y"] <= known["q95"])
    assert found["overall"]["coverage90"] == pytest.approx(inside.mean())
    assert list(found["by_step"]) == ["1", "2", "3"]
    for h in (1, 2, 3):
        rows = known[known["h"] == h]
        assert found["by_step"][str(h)]["rows"] == len(rows) == 20 - h
        assert found["by_step"][str(h)]["crps"] == pytest.approx(rows["crps"].mean())


def test_a_table_with_no_truth_at_all_has_nan_errors(table):
    nothing = table.assign(y=np.nan, crps=np.nan)
    found = table_errors(nothing, 0.01)
    assert found["overall"]["rows"] == 0
    assert np.isnan(found["by_step"]["2"]["crps"])


def test_naive_scale_is_the_mean_absolute_change_up_to_a_bar(eurusd):
    closes = eurusd.closes
    slow = sum(abs(closes[i] - closes[i - 1]) for i in range(1, 501)) / 500
    assert naive_scale(eurusd, 500) == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "seen"),
    [("2014-06-01", True), ("2014-12-31T14:00", True), ("2015-01-01T14:00", False), ("2015-01-02T14:00", False)],
)
def test_what_the_base_has_seen_is_forbidden_or_marked(first, seen):
    stamp = np.datetime64(first, "ns")
    assert forbid_seen("2014-12-31", stamp, allowed=True) is seen
    if seen:
        with pytest.raises(ConfigError, match=r"2014-12-31: it has seen the answers; move split.validation_start"):
            forbid_seen("2014-12-31", stamp, allowed=False)
    else:
        assert forbid_seen("2014-12-31", stamp, allowed=False) is False


def same(one, other):
    return all(
        np.array_equal(np.asarray(getattr(one, field.name)), np.asarray(getattr(other, field.name)))
        and np.asarray(getattr(one, field.name)).dtype.kind == np.asarray(getattr(other, field.name)).dtype.kind
        for field in fields(one)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_table_gives_the_forecasts_back_also_from_disk(eurusd, last, name, tmp_path):
    positions = np.array([500, 501, last])
    prediction = forecaster(name, eurusd).predict(contexts(eurusd, SPEC, CODEC.warm_up, positions))
    truth = targets(eurusd, SPEC, positions)
    made = to_table(prediction.forecasts, truth, prediction.crps(truth), prediction.crps_noise(truth))
    assert same(from_table(made), prediction.forecasts)
    write_parquet(tmp_path / "forecasts.parquet", made)
    read = pd.read_parquet(tmp_path / "forecasts.parquet")
    assert same(from_table(read), prediction.forecasts)
    pd.testing.assert_frame_equal(read, made, check_exact=True, check_dtype=False)
    assert same(prediction.forecasts.row(1), from_table(read).row(1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.iloc[:-1],
        lambda t: t.iloc[1:],
        lambda t: t.iloc[::-1],
        lambda t: t.iloc[:0],
        lambda t: t.drop(index=[1, 4, 7]),
        lambda t: t.assign(unique_id=["X", *t["unique_id"][1:]]),
        lambda t: t.assign(cutoff=t["cutoff"].shift(1, fill_value=t["cutoff"].iloc[0])),
    ],
)
def test_a_table_with_holes_is_refused(table, spoil):
    with pytest.raises(DataError, match="incomplete"):
        from_table(spoil(table.copy()))


def test_latency_is_positive_and_ordered(eurusd):
    found = latency(forecaster("ewma-t", eurusd), eurusd, SPEC, np.arange(1000, 1005), repeats=4)
    assert 0 < found.p50 <= found.p99


def test_the_error_of_the_crps_is_that_of_sampled_steps_only(eurusd, table):
    known = table[table["y"].notna()]
    assert (known.loc[known["h"] == 1, "crps_noise"] == 0).all()
    assert (known.loc[known["h"] > 1, "crps_noise"] != 0).all()
    found = table_errors(table, 0.01)
    assert found["by_step"]["1"]["crps_mc_se"] == 0
    sums = known.groupby("cutoff")["crps_noise"].sum()
    assert found["overall"]["crps_mc_se"] == pytest.approx(np.sqrt((sums**2).sum()) / len(known))
    third = known.loc[known["h"] == 3, "crps_noise"]
    assert found["by_step"]["3"]["crps_mc_se"] == pytest.approx(np.sqrt((third**2).sum()) / len(third))
    walk = rolling_forecasts(forecaster("random-walk", eurusd), eurusd, SPEC, np.arange(3000, 3010))
    assert table_errors(walk, 0.01)["overall"]["crps_mc_se"] == 0


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("truth", [0.0, 0.3, 3.0])
def test_the_error_of_the_mse_is_that_of_running_the_sampling_again(horizon, truth):
    """400 origins whose means are sampled anew 3,000 times; steps of an origin go together, the worst case."""
    rng = np.random.default_rng(1)
    d = np.abs(rng.normal(0, truth, (400, horizon))) * rng.choice([-1, 1], (400, 1))
    s = rng.uniform(0.2, 0.4, (400, 1))
    seen = [d - s * rng.normal(size=(400, 1)) for _ in range(3000)]
    actual = np.sqrt(np.mean([(np.mean(error**2) - np.mean(d**2)) ** 2 for error in seen]))
    origin, spread = np.repeat(np.arange(400), horizon), np.repeat(s, horizon, axis=1).ravel()
    stated = np.mean([noise_of_mse(error.ravel(), spread, origin) for error in seen[:200]])
    assert stated == pytest.approx(actual, rel=0.15)
    assert stated > 0.97 * actual


def test_the_table_has_the_error_of_the_mse_and_exact_means_have_none(eurusd, table):
    known = table[table["y"].notna()]
    error, spread = (known["y"] - known["mean"]).to_numpy(), known["mean_se"].to_numpy()
    origin = known["cutoff"].to_numpy()
    sampled = table_errors(table.assign(mean_se=1e-3), 0.01)["overall"]["mse_mc_error"]
    assert sampled == noise_of_mse(error, np.full(len(known), 1e-3), origin) > 1e-6
    assert table_errors(table, 0.01)["overall"]["mse_mc_error"] == noise_of_mse(error, spread, origin)
    walk = rolling_forecasts(forecaster("random-walk", eurusd), eurusd, SPEC, np.arange(3000, 3010))
    assert table_errors(walk, 0.01)["overall"]["mse_mc_error"] == 0


def test_the_scale_of_mase_is_that_of_the_training_part_alone(eurusd):
    closes = eurusd.closes
    slow = sum(abs(closes[i] - closes[i - 1]) for i in range(301, 501)) / 200
    assert naive_scale(eurusd, 500, first=300) == pytest.approx(slow, rel=1e-12)
    earlier = eurusd.frame.copy()
    earlier.iloc[:300] *= 2
    doubled = Bars(earlier, eurusd.instrument, eurusd.calendar)
    assert naive_scale(doubled, 500, first=300) == naive_scale(eurusd, 500, first=300)
    assert naive_scale(doubled, 500) != naive_scale(eurusd, 500)
