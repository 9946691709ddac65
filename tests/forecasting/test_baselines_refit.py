"""When fits are made, on what; that nothing later reaches them; that the cache changes no result."""

import numpy as np
import pytest
from asking import CODEC, SEASONAL, asked_for, bars_of, restamped, weekly
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecasting.baselines import BASELINES, baseline, cache
from forecasting.baselines.refit import Refits
from forecasting.cache import cache_folder
from forecasting.errors import ConfigError, DataError
from forecasting.sampler import SamplingOptions
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=10, horizon=3)
NAMES = sorted(BASELINES)
FIELDS = ("mean", "mean_se", "quantiles", "p_up", "p_up_se", "sigma", "anchor", "ds", "input_sha")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def like(eurusd, hourly):
    """Bars and codec for a baseline of that name: real days, or hours over a New Year, when fits are made anew."""
    over_new_year = restamped(hourly, "2015-10-01")
    codec = weekly(CODEC, over_new_year, over_new_year.closes)
    return lambda name: (over_new_year, codec) if name in SEASONAL else (eurusd, CODEC)


def stamp(text):
    return np.datetime64(text, "ns")


def same(one, other):
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in FIELDS)


def recording(bars, least=2, **changes):
    """Refits that note the closes of each fit; `fails` are lengths that do not converge."""
    fails = changes.pop("fails", ())
    fallback = changes.pop("fallback", None)
    made = []

    def fit(closes, factors):
        made.append(len(closes))
        return {} if len(closes) in fails else {"closes": len(closes), "last": float(closes[-1])}

    return Refits("test", asked_for(bars, **changes), fit, least, kept=False, fallback=fallback), made


def before(bars, date):
    return int((bars.times < stamp(date)).sum())


def test_dates_are_the_end_of_training_and_new_years(eurusd):
    end = int(np.searchsorted(eurusd.times, stamp("2004-06-30")))
    refits, _ = recording(eurusd, train=(0, end))
    asked = ["2003-05-01", "2004-01-05", "2004-08-01", "2004-12-31T23:00", "2005-01-03", "2007-03-01"]
    found = refits.dates(np.array([stamp(each) for each in asked])).astype("datetime64[D]").astype(str).tolist()
    trained = str(eurusd.times[end])[:10]
    assert found == ["2003-01-01", "2004-01-01", trained, trained, "2005-01-01", "2007-01-01"]


def test_a_fit_sees_the_bars_before_its_date_and_no_more(eurusd):
    refits, made = recording(eurusd, train=(100, 1000))
    (date,) = refits.of(np.array([stamp("2006-05-05")]))
    assert refits.at(date)["closes"] == made[0] == before(eurusd, "2006-01-01") - 100
    assert refits.at(date)["last"] == eurusd.closes[before(eurusd, "2006-01-01") - 1]
    refits, made = recording(eurusd, train=(100, 1000), refit="never")
    refits.of(np.array([stamp("2006-05-05"), stamp("2012-05-05")]))
    assert made == [901]


def test_a_cutoff_before_the_only_fit_is_refused(eurusd):
    refits, _ = recording(eurusd, train=(0, 1000), refit="never")
    with pytest.raises(DataError, match="fitted once"):
        refits.of(eurusd.times[[1000]])
    assert refits.of(eurusd.times[[1001]])


def test_too_little_data_is_refused_with_the_cure(eurusd):
    refits, _ = recording(eurusd, least=5000, train=(0, 1000))
    with pytest.raises(DataError, match="needs 5000 closes"):
        refits.of(np.array([stamp("2006-05-05")]))


def test_planned_cutoffs_are_fitted_together_and_once(eurusd):
    planned = np.array([stamp("2005-03-01"), stamp("2006-03-01"), stamp("2006-09-01")])
    refits, made = recording(eurusd, planned=planned)
    refits.of(planned[:1])
    assert made == [before(eurusd, "2005-01-01"), before(eurusd, "2006-01-01")]
    refits.of(planned)
    assert len(made) == 2


def test_a_fit_that_fails_gives_way_to_the_one_before(eurusd):
    lengths = [before(eurusd, f"{year}-01-01") for year in (2004, 2005, 2006)]
    refits, _ = recording(eurusd, fails=lengths[1:])
    (date,) = refits.of(np.array([stamp("2006-05-05")]))
    assert refits.at(date)["closes"] == lengths[0]


def test_where_all_fail_the_fallback_sees_no_more_than_the_fit(eurusd):
    def seen(closes, factors):
        return {"closes": len(closes), "factors": len(factors)}

    everything = range(10_000)
    refits, _ = recording(eurusd, fails=everything, fallback=seen)
    (date,) = refits.of(np.array([stamp("2006-05-05")]))
    assert refits.at(date) == dict.fromkeys(("closes", "factors"), before(eurusd, "2006-01-01"))
    refits, _ = recording(eurusd, fails=everything)
    refits.of(np.array([stamp("2006-05-05")]))
    with pytest.raises(DataError, match="did not converge"):
        refits.at(date)


def test_an_unknown_policy_names_the_nearest(eurusd):
    with pytest.raises(ConfigError, match=r"did you mean 'yearly'\?"):
        asked_for(eurusd, refit="yearl")


@pytest.mark.parametrize("name", NAMES)
def test_alone_or_in_any_company_a_cutoff_gives_the_same_bytes(like, name):
    (bars, codec), positions = like(name), np.array([1700, 900, 1015, 1016, 1017, 1300, 1301])
    asked = asked_for(bars, SPEC, paths=16, codec=codec)
    whole = baseline(name, asked).predict(contexts(bars, SPEC, CODEC.warm_up, positions))
    y = whole.forecasts.anchor[:, None] * np.array([[1.001, 0.99, 1.02]])
    for n, position in enumerate(positions):
        alone = baseline(name, asked).predict(contexts(bars, SPEC, CODEC.warm_up, np.array([position])))
        for field in FIELDS:
            assert getattr(alone.forecasts, field).tobytes() == getattr(whole.forecasts, field)[n : n + 1].tobytes()
        assert alone.crps(y[n : n + 1]).tobytes() == whole.crps(y)[n : n + 1].tobytes()
        assert alone.crps_noise(y[n : n + 1]).tobytes() == whole.crps_noise(y)[n : n + 1].tobytes()
        if whole.paths is not None:
            assert alone.paths.tobytes() == whole.paths[n : n + 1].tobytes()


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cutoff=st.integers(600, 2500), seed=st.integers(0, 1000))
@pytest.mark.parametrize("name", NAMES)
def test_nothing_after_the_cutoff_reaches_it_not_even_by_a_refit(like, name, cutoff, seed):
    rng, (stamped, codec) = np.random.default_rng(seed), like(name)
    closes = stamped.closes[:3000].copy()
    closes[cutoff + 1 :] *= np.exp(rng.normal(size=2999 - cutoff))
    at = np.array([cutoff - 1, cutoff])
    results = []
    for bars in (bars_of(stamped.closes[:3000], stamped), bars_of(closes, stamped)):
        given_ = contexts(bars, SPEC, CODEC.warm_up, at)
        asked = asked_for(bars, SPEC, codec=codec, planned=bars.times[[cutoff, 2900]])
        results.append(baseline(name, asked).predict(given_).forecasts)
    assert same(*results)


@pytest.mark.parametrize("name", ["ar1", "garch-t", "auto-arima", "auto-ets", "theta"])
def test_a_fit_does_change_when_its_own_past_does(eurusd, name):
    """The counterpart: what the property above holds still is not merely dead."""
    closes = eurusd.closes.copy()
    closes[100:400] *= np.exp(np.cumsum(np.random.default_rng(1).normal(size=300)) * 0.02)
    results = []
    for bars in (eurusd, bars_of(closes, eurusd)):
        given_ = contexts(bars, SPEC, CODEC.warm_up, np.array([1500]))
        results.append(baseline(name, asked_for(bars, SPEC)).predict(given_).forecasts)
    assert results[0].quantiles.tobytes() != results[1].quantiles.tobytes()


@pytest.mark.parametrize("name", ["garch-t", "auto-arima", "auto-ets", "theta"])
def test_the_cache_is_used_and_changes_nothing(eurusd, name, tmp_path, monkeypatch):
    given_ = contexts(eurusd, SPEC, CODEC.warm_up, np.array([1500, 1600]))

    def predicted():
        return baseline(name, asked_for(eurusd, SPEC)).predict(given_).forecasts

    first = predicted()
    files = sorted(tmp_path.rglob("*.json"))
    assert files
    stamps = [file.stat().st_mtime_ns for file in files]
    assert same(first, predicted())
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.rglob("*.json"))] == stamps
    for file in files:
        file.write_text("{broken")
    assert same(first, predicted())
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")
    monkeypatch.setenv("TUNETRADE_CACHE", str(blocked))
    assert same(first, predicted())


def test_a_kept_fit_is_not_made_again(tmp_path):
    made = []

    def fit():
        made.append(1)
        return {"a": 0.1 + 0.2, "p": 3}

    assert cache.remembered("ab" * 32, fit) == cache.remembered("ab" * 32, fit) == {"a": 0.1 + 0.2, "p": 3}
    assert len(made) == 1
    assert [file.relative_to(tmp_path).parts[0] for file in tmp_path.rglob("*.json")] == ["fits"]


def test_the_key_of_a_fit_knows_data_and_model(eurusd, tmp_path):
    given_ = contexts(eurusd, SPEC, CODEC.warm_up, np.array([1500]))
    for asked in (asked_for(eurusd, SPEC), asked_for(eurusd, SPEC, train=(5, 420))):
        for name in ("auto-ets", "theta"):
            baseline(name, asked).predict(given_)
    assert len(list(tmp_path.rglob("*.json"))) == 4


def test_the_cache_lies_where_caches_lie(monkeypatch):
    monkeypatch.delenv("TUNETRADE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache_folder().as_posix() == "somewhere/tunetrade"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "local")
    assert cache_folder().as_posix() == "local/tunetrade/Cache"


@pytest.mark.parametrize("name", ["ar1", "garch-t", "auto-arima"])
def test_threads_change_nothing(eurusd, name, tmp_path, monkeypatch):
    given_ = contexts(eurusd, SPEC, CODEC.warm_up, np.array([1000, 1500, 2000]))
    results = []
    for threads in (1, 3):
        monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path / str(threads)))
        asked = asked_for(eurusd, SPEC, options=SamplingOptions(8, threads=threads))
        results.append(baseline(name, asked).predict(given_).forecasts)
    assert same(*results)
