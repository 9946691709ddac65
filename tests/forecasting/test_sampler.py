import numpy as np
import pytest
import torch
from asking import bars_of
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_same_bytes_alone, forward_of, slow_draws
from scipy import stats

from forecasting.base import find_base, load_model
from forecasting.codecs import BinsCodec
from forecasting.codecs.bins import returns_of
from forecasting.codecs.fit import CodecOptions, fit_codec, scale_codec
from forecasting.decoder import Decoder, weights_of
from forecasting.errors import CheckpointError, ConfigError
from forecasting.forecaster import PathForecaster
from forecasting.sampler import TILE_ROWS, SamplingOptions, UniformTokens, _power, first_step, gpt2_decoders, sample
from forecasting.scale import causal_sigma
from forecasting.tiles import Tiling
from forecasting.uniforms import group_size, uniforms
from forecasting.windows import WindowSpec, contexts

SPEC = WindowSpec(context=12, horizon=4)


@pytest.fixture(scope="module")
def base(tiny_base):
    return find_base(str(tiny_base))


@pytest.fixture(scope="module")
def model(base):
    return load_model(base).eval()


def forecaster(base, model, **options):
    settings_ = SamplingOptions(**{"paths": 16, **options})
    make = gpt2_decoders(weights_of(model), settings_.paths, SPEC.horizon)
    return PathForecaster("tiny", base.codec, SPEC.context, settings_, make)


def test_paths_equal_a_plain_loop_over_transformers(base, model, eurusd):
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([700, 2000, 5000]))
    drawn = sample(
        inputs, base.codec, gpt2_decoders(weights_of(model), 16, SPEC.horizon), SPEC.context, SamplingOptions(16)
    )
    _, slow = slow_draws(forward_of(model), base.codec, inputs, SPEC.context, 16, 1)
    assert drawn.paths == pytest.approx(slow, rel=1e-6)


def test_logits_equal_transformers_at_every_step(model):
    torch.manual_seed(0)
    ids, steps = torch.randint(0, 31, (12,)), torch.randint(0, 31, (8, 5))
    with torch.inference_mode():
        decoder = Decoder(weights_of(model), 8, 5)
        ours = [decoder.start(ids).expand(8, -1)] + [decoder.advance(steps[:, t]) for t in range(5)]
        theirs = model(torch.cat([ids.expand(8, -1), steps], dim=1)).logits[:, 11:]
    assert torch.stack(ours, dim=1).numpy() == pytest.approx(theirs.numpy(), abs=1e-4)


def test_a_decoder_forgets_its_last_window(model):
    weights = weights_of(model)
    with torch.inference_mode():
        used, fresh = Decoder(weights, 4, 3), Decoder(weights, 4, 3)
        used.start(torch.arange(12))
        used.advance(torch.arange(4))
        used.start(torch.arange(5, 14))
        fresh.start(torch.arange(5, 14))
        assert torch.equal(used.advance(torch.arange(4)), fresh.advance(torch.arange(4)))


def test_a_tile_gives_the_forward_of_its_windows_alone(model):
    torch.manual_seed(0)
    ids, steps = torch.randint(0, 31, (3, 12)), torch.randint(0, 31, (5, 3, 8))
    with torch.inference_mode():
        decoder = Decoder(weights_of(model), 8, 5)
        tile = [decoder.start(ids)[:, None].expand(-1, 8, -1)] + [decoder.advance(step) for step in steps]
        alone = [[decoder.start(ids[i]).expand(8, -1)] + [decoder.advance(step[i]) for step in steps] for i in range(3)]
    for together, *single in zip(tile, *alone, strict=True):
        assert together.numpy() == pytest.approx(torch.stack(single).numpy(), abs=1e-5)


def same_bytes(one, other):
    fields = ("mean", "mean_se", "quantiles", "p_up", "p_up_se", "anchor", "sigma")
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in fields)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_the_same_cutoff_gives_the_same_bytes_alone_and_in_any_batch(base, model, eurusd, data):
    batch = data.draw(st.lists(st.integers(100, 7100), min_size=2, max_size=9, unique=True))
    wanted = data.draw(st.sampled_from(batch))
    threads = data.draw(st.sampled_from([1, 2]))
    warm_up = base.codec.warm_up
    together = forecaster(base, model, threads=threads).predict(contexts(eurusd, SPEC, warm_up, np.array(batch)))
    alone = forecaster(base, model, threads=1).predict(contexts(eurusd, SPEC, warm_up, np.array([wanted])))
    assert_same_bytes_alone(together, batch.index(wanted), alone)


def test_one_and_two_threads_give_the_same_bytes_with_the_embedded_base(eurusd):
    embedded = find_base("embedded")
    weights, spec = weights_of(load_model(embedded)), WindowSpec(64, 5)
    inputs = contexts(eurusd, spec, embedded.codec.warm_up, np.arange(6000, 6007))
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        options = SamplingOptions(paths=64, threads=threads)
        made = gpt2_decoders(weights, 64, 5)
        results.append(PathForecaster("e", embedded.codec, 64, options, made).predict(inputs))
    assert results[0].paths.tobytes() == results[1].paths.tobytes()
    assert same_bytes(results[0].forecasts, results[1].forecasts)


class TiesToTheTile(UniformTokens):
    """Where a library's last bits depend on a window's place in the tile."""

    def start(self, ids):
        return super().start(ids) + torch.arange(len(ids))[:, None] * torch.linspace(0, 1e-6, 255)


@pytest.mark.parametrize(("kind", "expected"), [(UniformTokens, {1, 4}), (TiesToTheTile, {1})])
def test_tiles_are_used_only_where_they_give_the_same_bytes(eurusd, kind, expected):
    class Seen(kind):
        def start(self, ids):
            seen.append(len(ids))
            return super().start(ids)

    codec, spec, seen = BinsCodec(), WindowSpec(12, 3), []
    inputs = contexts(eurusd, spec, codec.warm_up, np.arange(3000, 3019))
    options = SamplingOptions(64, threads=2)
    made = PathForecaster("e", codec, spec.context, options, lambda: Seen(codec.bins, 64))
    reports = []
    first, checks = made.predict(inputs, reports.append), len(seen)
    again = made.predict(inputs)
    assert set(seen[checks:]) == expected, "the check runs once"
    assert sum(reports) == sum(seen[checks:]) == 19
    assert same_bytes(first.forecasts, again.forecasts)
    alone = [made.predict(contexts(eurusd, spec, codec.warm_up, np.array([3000 + i]))).paths for i in range(19)]
    assert np.concatenate(alone).tobytes() == first.paths.tobytes()


@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_tiles_of_the_embedded_base_and_single_windows_give_the_same_bytes(eurusd, monkeypatch, count):
    embedded, spec = find_base("embedded"), WindowSpec(64, 5)
    inputs = contexts(eurusd, spec, embedded.codec.warm_up, np.arange(6000, 6000 + count))
    made = gpt2_decoders(weights_of(load_model(embedded)), 64, 5)
    results = []
    for rows, threads in ((64, 1), (256, 1), (256, 2)):
        monkeypatch.setattr("forecasting.sampler.TILE_ROWS", rows)
        options = SamplingOptions(paths=64, threads=threads)
        results.append(PathForecaster("e", embedded.codec, 64, options, made).predict(inputs))
    for other in results[1:]:
        assert other.paths.tobytes() == results[0].paths.tobytes()
        assert same_bytes(other.forecasts, results[0].forecasts)


def test_uniforms_do_not_depend_on_how_many_steps_are_asked_for():
    at = np.datetime64("2020-01-01", "ns")
    few, many = uniforms(1, "X-D1", at, 64, 3), uniforms(1, "X-D1", at, 64, 20)
    assert (many[:3] == few).all()
    assert ((many > 0) & (many < 1)).all()
    for other in (uniforms(2, "X-D1", at, 64, 3), uniforms(1, "Y-D1", at, 64, 3), uniforms(1, "X-D1", at + 1, 64, 3)):
        assert np.isclose(few, other).mean() < 0.01


@pytest.mark.parametrize("paths", [8, 16, 64, 66])
def test_each_step_of_a_group_draws_once_from_every_stratum(paths):
    size = group_size(paths)
    drawn = uniforms(3, "X-D1", np.datetime64("2020-01-01", "ns"), paths, 50).reshape(50, -1, size)
    assert (np.sort((drawn * size).astype(int), axis=2) == np.arange(size)).all()
    assert drawn[..., 0::2] + drawn[..., 1::2] == pytest.approx(np.ones((50, paths // size, size // 2)))


def test_a_path_is_uniform_and_independent_from_step_to_step():
    cutoffs = np.datetime64("2020-01-01", "ns") + np.arange(4000)
    drawn = np.stack([uniforms(5, "X-D1", at, 64, 3)[:, (0, 1, 7, 40)] for at in cutoffs])
    for path in range(4):
        for step in range(3):
            assert stats.kstest(drawn[:, step, path], "uniform").pvalue > 1e-4
        steps = np.corrcoef(drawn[:, :, path].T)
        assert np.abs(steps - np.eye(3)).max() < 0.06
    between_groups = np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 3])[0, 1]
    assert abs(between_groups) < 0.06


def test_first_step_is_exact_and_does_not_depend_on_the_sampling_seed(base, model, eurusd):
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([3000, 3001]))
    one, two = (forecaster(base, model, seed=seed).predict(inputs).forecasts for seed in (1, 2))
    for name in ("mean", "p_up"):
        assert (getattr(one, name)[:, 0] == getattr(two, name)[:, 0]).all()
        assert (getattr(one, name)[:, 1:] != getattr(two, name)[:, 1:]).any()
    assert (one.quantiles[:, :, 0] == two.quantiles[:, :, 0]).all()
    assert (one.mean_se[:, 0] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("late", [False, True])
def test_a_model_that_says_nothing_is_refused(eurusd, value, late):
    """As a diverged checkpoint does, at its first step or, where positions hold the fault, at a later one."""

    class Diverged(UniformTokens):
        def start(self, ids):
            return super().start(ids) if late else super().start(ids) + value

        def advance(self, ids):
            return super().advance(ids) + value

    codec, options = BinsCodec(), SamplingOptions(16, threads=1)
    inputs = contexts(eurusd, SPEC, codec.warm_up, np.array([3000, 3001]))
    with pytest.raises(CheckpointError, match="logits are NaN or infinite"):
        sample(inputs, codec, lambda: Diverged(codec.bins, 16), SPEC.context, options)
    if not late:
        with pytest.raises(CheckpointError, match="logits are NaN or infinite"):
            first_step(inputs, codec, lambda: Diverged(codec.bins, 16), SPEC.context, options)


@pytest.mark.parametrize("jump", [0.01, 0.2, 0.5])
def test_the_mean_of_step_1_is_that_of_its_density(base, model, eurusd, jump):
    """Also where volatility is so high that the far tail ends at the least price, on some windows of a tile or all."""
    moves = np.where(np.arange(1000) < 800, 0.005, jump) * np.tile([1, -1 / (1 + jump)], 500)
    inputs = contexts(bars_of(np.cumprod(1 + moves), eurusd), SPEC, base.codec.warm_up, np.array([799, 801, 900]))
    drawn = sample(inputs, base.codec, gpt2_decoders(weights_of(model), 16, 4), SPEC.context, SamplingOptions(16))
    middle = (drawn.first_knots[:, 1:] + drawn.first_knots[:, :-1]) / 2
    stated = (drawn.first_weights * middle).sum(axis=1)
    assert drawn.mean[:, 0] / stated == pytest.approx(np.ones(3), abs=1e-12)
    assert (drawn.first_knots.min(axis=1) < 1e-2 * inputs.closes[:, -1]).tolist() == [False, jump > 0.1, jump > 0.1]


@pytest.mark.parametrize("paths", [4, 64, 66])
def test_the_first_step_alone_is_that_of_the_paths_to_the_last_byte(eurusd, paths):
    """Many windows, since torch and NumPy disagree about the last bit of a power in one window of twenty."""
    embedded, spec = find_base("embedded"), WindowSpec(64, 1)
    inputs = contexts(eurusd, spec, embedded.codec.warm_up, np.arange(4000, 4201))
    asked = (embedded.codec, gpt2_decoders(weights_of(load_model(embedded)), paths, 1), 64, SamplingOptions(paths))
    drawn, alone = sample(inputs, *asked), first_step(inputs, *asked)
    assert alone.knots.tobytes() == drawn.first_knots.tobytes()
    assert alone.weights.tobytes() == drawn.first_weights.tobytes()


@pytest.mark.parametrize("exponent", [1.5, 1 / 1.5])
def test_a_power_has_the_same_bytes_wherever_its_base_stands(exponent):
    base = torch.rand(3200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = _power(base, exponent)
    assert whole.numpy() == pytest.approx(base.numpy() ** exponent, rel=1e-14)
    for size in (1, 4, 25, 66):
        assert torch.equal(torch.cat([_power(part, exponent) for part in base.split(size)]), whole)


def test_conditional_means_agree_with_plain_draws_within_their_error(base, model, eurusd):
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([4000]))
    result = forecaster(base, model, paths=8192).predict(inputs)
    draws = result.paths[0]
    for h in range(SPEC.horizon):
        error = draws[:, h].std() / np.sqrt(len(draws))
        assert result.forecasts.mean[0, h] == pytest.approx(draws[:, h].mean(), abs=4 * error)
        up = (draws[:, h] > result.forecasts.anchor[0]).mean()
        assert result.forecasts.p_up[0, h] == pytest.approx(up, abs=4 * 0.5 / np.sqrt(len(draws)))
        assert result.forecasts.mean_se[0, h] < error


def test_stated_standard_error_is_the_spread_over_sampling_seeds(base, model, eurusd):
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([4000]))
    runs = [forecaster(base, model, paths=32, seed=seed).predict(inputs).forecasts for seed in range(150)]
    spread = np.std([run.mean[0] for run in runs], axis=0)[1:]
    stated = np.sqrt(np.mean([run.mean_se[0] ** 2 for run in runs], axis=0))[1:]
    assert stated == pytest.approx(spread, rel=0.25)


def test_sigma_is_carried_along_each_path():
    """With equal tokens the paths are a GARCH-like process; its variance grows as simulated independently."""
    codec = BinsCodec(half_lives=(4.0, 15.0), weights=(0.6, 0.4))
    day = np.timedelta64(1, "D").astype("timedelta64[ns]")
    rng = np.random.default_rng(0)
    closes = np.exp(np.cumsum(rng.normal(size=codec.warm_up + 12) * 0.01))[None]
    times = (np.datetime64("2020-01-01", "ns") + np.arange(closes.shape[1]) * day)[None]
    from forecasting.windows import Contexts

    ahead = times[:, -1:] + np.arange(1, 11) * day
    inputs = Contexts("SIM-D1", times[:, -1], closes, times, ahead)
    drawn = sample(inputs, codec, lambda: UniformTokens(codec.bins, 20_000), 12, SamplingOptions(20_000))
    powers = np.repeat(np.abs(returns_of(closes)) ** 1.5, 50_000, axis=0)
    moment = stats.t.expect(lambda x: np.abs(x * 0.6**0.5) ** 1.5, args=(5,))  # a t of 5 degrees and variance 1
    position = np.zeros(50_000)
    for _ in range(10):
        ages = np.arange(powers.shape[1])[::-1]
        fast, slow = (np.average(powers, axis=1, weights=0.5 ** (ages / half_life)) for half_life in (4, 15))
        z = rng.standard_t(5, size=50_000) * 0.6**0.5
        move = z * ((0.6 * fast + 0.4 * slow) / moment) ** (1 / 1.5)
        position = (1 + position) * (1 + move) - 1
        powers = np.column_stack([powers, np.abs(move) ** 1.5])
    ours = drawn.paths[0, :, -1] / closes[0, -1] - 1
    for level in (0.05, 0.25, 0.75, 0.95):
        assert np.quantile(ours, level) == pytest.approx(np.quantile(position, level), rel=0.05)


@pytest.mark.parametrize("wrong", [{"paths": 3}, {"paths": 0}, {"paths": 7}, {"threads": -1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="sampling"):
        SamplingOptions(**wrong)


@pytest.mark.parametrize("asked", ["two", "-1", "1.5", ""])
def test_threads_of_the_environment_that_are_no_number_are_refused(monkeypatch, asked):
    monkeypatch.setenv("TUNETRADE_THREADS", asked)
    with pytest.raises(ConfigError, match="TUNETRADE_THREADS is"):
        _ = SamplingOptions().workers
    monkeypatch.setenv("TUNETRADE_THREADS", "3")
    assert SamplingOptions().workers == 3


def test_the_hash_covers_what_is_sampled(base, model):
    assert forecaster(base, model).sha != forecaster(base, model, paths=18).sha
    assert forecaster(base, model).sha != forecaster(base, model, seed=2).sha
    assert forecaster(base, model).sha == forecaster(base, model, threads=2).sha


@pytest.mark.parametrize("timeframe", ["daily", "hourly"])
def test_sampled_paths_encode_back_to_the_tokens_that_made_them(base, model, eurusd, hourly, timeframe):
    """The sampler has tables of its own: what it made of tokens, the codec must read as those tokens.

    Volatility is carried along each path, and hourly also the profile of the week. Ties at edges may go either way.
    """
    bars = eurusd if timeframe == "daily" else hourly
    codec = fit_codec(scale_codec(base.codec, bars, CodecOptions()), bars, CodecOptions(), 0, len(bars) - 400)
    assert (len(set(codec.profile)) > 50) == (timeframe == "hourly")
    size, spec, seen = TILE_ROWS, WindowSpec(12, 6), []

    class Recorded(Decoder):
        def advance(self, ids):
            seen.append(ids.clone())
            return super().advance(ids)

    at = len(bars) - 300 + np.arange(0, 250, 50)
    inputs = contexts(bars, spec, codec.warm_up, at)
    weights = weights_of(model)
    options = SamplingOptions(size, threads=1)
    drawn = sample(inputs, codec, lambda: Recorded(weights, size, spec.horizon - 1), spec.context, options)
    tokens = np.stack([step.numpy().reshape(-1) for step in seen]).reshape(len(at), spec.horizon - 1, size)
    differing = 0
    for n in range(len(at)):
        closes = np.concatenate([np.repeat(inputs.closes[n : n + 1], size, axis=0), drawn.paths[n]], axis=1)
        times = np.repeat(np.concatenate([inputs.times[n], inputs.ahead[n]])[None], size, axis=0)
        read = codec.encode(closes, times, spec.horizon)[0][:, :-1]
        wrong = read != tokens[n].T
        differing += wrong.sum()
        returns = returns_of(closes) / codec.factors(times[:, 1:])
        z = (returns / causal_sigma(returns, codec.scale)[0])[:, -spec.horizon : -1]
        apart = np.abs(z[..., None] - codec.edges).min(axis=2)
        assert (apart[wrong] < 1e-9).all()
        assert len(np.unique(read)) > 5
    assert differing <= 2, "ties are rare"


def test_equal_tokens_are_a_random_walk_in_price(eurusd):
    """No drift from the shape of the distribution: its mean is the last close at every step, exactly."""
    codec, spec = BinsCodec(), WindowSpec(16, 6)
    inputs = contexts(eurusd, spec, codec.warm_up, np.arange(3000, 3020))
    made = PathForecaster("e", codec, 16, SamplingOptions(16), lambda: UniformTokens(codec.bins, 16))
    forecasts = made.predict(inputs).forecasts
    assert np.abs(forecasts.mean / forecasts.anchor[:, None] - 1).max() < 1e-14
    assert forecasts.p_up[:, 0] == pytest.approx(np.full(20, 0.5), abs=1e-12)


@pytest.mark.parametrize("work", [sample, first_step])
def test_in_whole_tiles_the_bytes_of_a_window_do_not_depend_on_its_company(work, base, model, eurusd, monkeypatch):
    """How a CUDA device is fed; here on the CPU."""
    monkeypatch.setattr(SamplingOptions, "tiling", lambda self, rows, each: Tiling(5, 1, whole=True))
    make = gpt2_decoders(weights_of(model), 16, SPEC.horizon)

    def run(positions):
        done = []
        inputs = contexts(eurusd, SPEC, base.codec.warm_up, positions)
        return work(inputs, base.codec, make, SPEC.context, SamplingOptions(16), done.append), done

    (all_of_them, done), (some, _) = run(np.arange(700, 713)), run(np.array([703, 708, 712]))
    assert done == [5, 5, 3]
    for name, values in vars(some).items():
        assert values.tobytes() == getattr(all_of_them, name)[[3, 8, 12]].tobytes(), name


def test_half_precision_is_the_same_model_to_its_precision(base, model, eurusd):
    inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.array([700, 2000, 5000]))

    def means(**options):
        asked = SamplingOptions(16, **options)
        make = gpt2_decoders(asked.place(weights_of(model)), asked.paths, SPEC.horizon)
        return sample(inputs, base.codec, make, SPEC.context, asked)

    full, half = means(), means(precision="bfloat16")
    assert half.first_weights == pytest.approx(full.first_weights, rel=0.05)
    assert half.first_weights.tobytes() != full.first_weights.tobytes()
    assert half.p_up == pytest.approx(full.p_up, abs=0.05)


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"precision": "float16"}])
def test_an_unknown_device_or_precision_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SamplingOptions(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_cuda_device_that_is_not_there_is_refused(model):
    with pytest.raises(ConfigError, match="no CUDA device"):
        SamplingOptions(device="cuda").place(weights_of(model))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_forecasts_of_the_processor(base, model, eurusd):
    def drawn(device, count):
        asked = SamplingOptions(16, device=device)
        make = gpt2_decoders(asked.place(weights_of(model)), asked.paths, SPEC.horizon)
        inputs = contexts(eurusd, SPEC, base.codec.warm_up, np.arange(700, 700 + count))
        return sample(inputs, base.codec, make, SPEC.context, asked)

    one, other = drawn("cpu", 20), drawn("cuda", 20)
    assert other.first_weights == pytest.approx(one.first_weights, rel=1e-3)
    assert drawn("cuda", 3).paths.tobytes() == other.paths[:3].tobytes()
