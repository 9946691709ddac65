"""The engine beside chronos-forecasting: its T5-tiny and Bolt-tiny architectures with random weights, speed only.

    python -m benchmarks.chronos [--quick] [--json]     (needs the package chronos-forecasting, in the extra `dev`)

T5-tiny samples paths token by token, as we do; it has about ten times our parameters. So it is also
scaled to equal parameters, as deep but only 72 wide, and the plain ratio is given per parameter.
Bolt-tiny gives quantiles of all steps in one pass and no paths, so only its windows a second can be set beside ours; a
window of ours is 32 paths of 20 steps with their exact means.
"""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.bench import CONTEXT, HORIZON, THREADS, Job, bench_model, engine_weights, race, windows
from benchmarks.claims import Claim, main
from forecasting.codecs import BinsCodec
from forecasting.sampler import SamplingOptions, gpt2_decoders, sample

BATCH, PATHS = 8, 32
NARROW = {"d_model": 72, "d_kv": 18, "d_ff": 288, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4}
TINY = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4}
QUANTILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def t5(shape: Mapping[str, int]) -> Any:
    """The pipeline of chronos-t5-tiny with other widths, weights random."""
    from chronos.chronos import ChronosConfig, ChronosModel, ChronosPipeline
    from transformers import T5Config, T5ForConditionalGeneration

    config = ChronosConfig(
        tokenizer_class="MeanScaleUniformBins", tokenizer_kwargs={"low_limit": -15.0, "high_limit": 15.0},
        context_length=512, prediction_length=64, n_tokens=4096, n_special_tokens=2, pad_token_id=0, eos_token_id=1,
        use_eos_token=True, model_type="seq2seq", num_samples=20, temperature=1.0, top_k=50, top_p=1.0,
    )  # fmt: skip
    own = T5Config(vocab_size=4096, **shape, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(own).eval()
    return ChronosPipeline(tokenizer=config.create_tokenizer(), model=ChronosModel(config=config, model=model))


def bolt_tiny() -> Any:
    """The pipeline of chronos-bolt-tiny, weights random."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting, ChronosBoltPipeline
    from transformers import T5Config

    own = {
        "context_length": 2048, "prediction_length": 64, "input_patch_size": 16, "input_patch_stride": 16,
        "quantiles": QUANTILES, "use_reg_token": True,
    }  # fmt: skip
    shape = T5Config(vocab_size=2, **TINY, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, chronos_config=own)
    return ChronosBoltPipeline(ChronosBoltModelForForecasting(shape).eval())


def parameters(model: torch.nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(value.numel() for value in model.parameters())


def measure(quick: bool = False) -> dict[str, Claim]:
    """Paths and windows a second, as they are and at equal parameters."""
    torch.manual_seed(0)
    ours, codec = bench_model(), BinsCodec()
    tiny, narrow, bolt = t5(TINY), t5(NARROW), bolt_tiny()
    contexts = windows(16 if quick else 64, codec)
    series = torch.from_numpy(contexts.closes[:BATCH, -CONTEXT:]).float()
    make, options = gpt2_decoders(engine_weights(ours, codec), PATHS, HORIZON), SamplingOptions(PATHS, threads=THREADS)
    rates = race(
        {
            "engine": Job(lambda: sample(contexts, codec, make, CONTEXT, options), len(contexts)),
            "tiny": Job(lambda: tiny.predict(series, HORIZON, num_samples=PATHS), BATCH),
            "narrow": Job(lambda: narrow.predict(series, HORIZON, num_samples=PATHS), BATCH),
            "bolt": Job(lambda: bolt.predict(series, HORIZON), BATCH),
        },
        3 if quick else 5,
    )
    larger = parameters(tiny.model) / parameters(ours)
    return {
        "paths/s over T5-tiny's": Claim(rates.ratio("engine", "tiny"), "x"),
        "paths/s over T5-tiny's, times our parameters over its": Claim(rates.ratio("engine", "tiny") / larger, "x"),
        f"paths/s over a T5 72 wide, of {parameters(narrow.model) / parameters(ours):.2f} times our parameters": Claim(
            rates.ratio("engine", "narrow"), "x", 5
        ),
        "parameters of T5-tiny over ours": Claim(larger, "x"),
        "windows/s over Bolt-tiny's (quantiles only, no paths)": Claim(rates.ratio("engine", "bolt"), "x"),
        "engine": Claim(PATHS * rates.median("engine"), "paths/s"),
        "T5-tiny": Claim(PATHS * rates.median("tiny"), "paths/s"),
    }


if __name__ == "__main__":
    main(measure, __doc__)
