"""AdaLoRA (Zhang et al. 2023): W + (alpha / r) B diag(E) A, whose r = initial_rank triplets training thins out.

Each triplet of a singular value and its two vectors has a score: smoothed |weight x gradient| times its smoothed
deviation. Those with the lowest have their singular value set to zero, over all matrices together, until `rank` of
them are left on average; one whose score recovers comes back. A penalty keeps the vectors orthogonal. Scores, and which
triplets are left, live outside the weights: a resumed run needs them too.

The update comes first and thinning after it, as in the article: otherwise the optimiser's momentum would bring back at
once what was taken out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from forecasting.base import Base, load_model
from forecasting.decoder import DecoderWeights
from forecasting.errors import OptionError
from forecasting.files import read_json, reading
from forecasting.methods.method import CURE, Method, MethodOptions
from forecasting.methods.wrapped import (
    ADAPTER,
    TARGETS,
    check_low_rank,
    load_folder,
    merged,
    names_in,
    save_folder,
    tuned_layers,
    wrap,
)
from forecasting.train import Plan

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class AdaLoraOptions(MethodOptions):
    """Ranks, smoothing and penalty as in PEFT, within what the article uses; all matrices compete, as in the article.

    rank: mean of what is left; initial_rank: what each matrix begins with. settled, final: share of the steps before
    thinning begins, and after it has ended; the article's runs have about a tenth and a half. interval: steps from one
    thinning to the next. smoothing, deviation: of the scores, beta1 and beta2. orthogonality: weight of the penalty.
    """

    learning_rate: float = 1e-3
    rank: int = 8
    initial_rank: int = 12
    alpha: float = 32.0
    dropout: float = 0.1
    targets: str = "c_attn,attn.c_proj,mlp.c_fc,mlp.c_proj"
    settled: float = 0.1
    final: float = 0.5
    interval: int = 1
    smoothing: float = 0.85
    deviation: float = 0.85
    orthogonality: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_low_rank(self.alpha, self.dropout, rank=self.rank)
        names_in(self.targets, TARGETS)
        if self.initial_rank <= self.rank:
            raise OptionError(
                f"initial_rank is {self.initial_rank}, rank {self.rank}; give it more than is to be left, or take lora"
            )
        if min(self.settled, self.final) < 0 or self.settled + self.final >= 1:
            raise OptionError(
                f"settled is {self.settled} and final {self.final}; give shares of the steps, not "
                f"negative, that leave some for thinning"
            )
        if self.interval < 1:
            raise OptionError(f"interval is {self.interval}; give a whole number of at least 1")
        for name in ("smoothing", "deviation"):
            if not 0 < getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; give a number between 0 and 1")
        if self.orthogonality < 0:
            raise OptionError(f"orthogonality is {self.orthogonality}; give 0, which turns it off, or more")


def _prepare(model: "GPT2LMHeadModel", options: AdaLoraOptions) -> "PeftModel":
    from peft import AdaLoraConfig

    config = AdaLoraConfig(
        target_r=options.rank,
        init_r=options.initial_rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=names_in(options.targets, TARGETS),
        deltaT=options.interval,
        beta1=options.smoothing,
        beta2=options.deviation,
        orth_reg_weight=options.orthogonality,
        total_step=1,  # until the plan is made
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    return wrap(model, config)


def schedule(options: AdaLoraOptions, steps: int) -> tuple[int, int, int]:
    """Steps in all, those before thinning, those after it.

    At least one step is left for scores and one for the thinning that reaches `rank`.
    """
    total = max(steps, 2)
    after = min(int(options.final * total), total - 2)
    return total, min(int(options.settled * total), total - after - 1), after


def _plan(model: "PeftModel", options: AdaLoraOptions, steps: int) -> Plan:
    tuner: Any = model.base_model
    config, allocator = tuner.peft_config[ADAPTER], tuner.rankallocator
    config.total_step, config.tinit, config.tfinal = schedule(options, steps)

    def state() -> dict[str, Tensor]:
        left = {name: torch.tensor(kept) for name, kept in (config.rank_pattern or {}).items()}
        return {
            f"{kind}.{name}": value
            for kind, part in (("score", allocator.exp_avg_ipt), ("spread", allocator.exp_avg_unc), ("left", left))
            for name, value in part.items()
        }

    def restore(stored: dict[str, Tensor]) -> None:
        device = next(model.parameters()).device

        def part(kind: str) -> dict[str, Tensor]:
            inside = {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"{kind}.")}
            return {name: value.to(device) for name, value in inside.items()}

        allocator.exp_avg_ipt, allocator.exp_avg_unc = part("score"), part("spread")
        allocator.ipt = dict(allocator.exp_avg_ipt)  # worked out anew at each step; peft asks only whether it is there
        config.rank_pattern = {name: kept.tolist() for name, kept in part("left").items()} or None

    return Plan(
        penalty=(lambda: options.orthogonality * deviation_from_orthogonal(model)) if options.orthogonality else None,
        after_step=lambda step: tuner.update_and_allocate(step + 1),
        state=state,
        restore=restore,
    )


def deviation_from_orthogonal(model: nn.Module) -> Tensor:
    """Mean over all A and B of |A A^T - 1| and |B^T B - 1|, Frobenius norms, as PEFT has it."""
    products = [
        value @ value.T if ".lora_A." in name else value.T @ value
        for name, value in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    ]
    return torch.stack([torch.linalg.norm(each - torch.eye(len(each), device=each.device)) for each in products]).mean()


def _save(model: "PeftModel", folder: Path) -> None:
    """Only the triplets that are left, and PEFT's `rank_pattern` of which they were.

    The pattern is read off the weights: those kept are of the best step, at which others may have been left.
    """
    config: Any = model.peft_config[ADAPTER]
    before = config.rank_pattern
    left = {f"{name}.lora_E": _left(layer).tolist() for name, layer in tuned_layers(model).items()}
    # a layer that was loaded has lost the others already
    config.rank_pattern = {name: kept if len(kept) == config.init_r else before[name] for name, kept in left.items()}
    save_folder(model, folder)
    config.rank_pattern = before


def _left(layer: Any) -> Tensor:
    """Which triplets of a layer are left, bool [r]."""
    left: Tensor = layer.lora_E[ADAPTER].detach().view(-1) != 0
    return left


def _load(base: Base, options: AdaLoraOptions, folder: Path) -> "PeftModel":
    model = _prepare(load_model(base), options)
    file = folder / "adapter_config.json"
    with reading(file, CURE):
        pattern = read_json(file)["rank_pattern"]
        if {name: len(left) for name, left in pattern.items()} != {
            f"{name}.lora_E": options.initial_rank for name in tuned_layers(model)
        }:
            raise ValueError("its rank_pattern is not of these settings")
    model.peft_config[ADAPTER].rank_pattern = pattern
    return load_folder(model, folder)


def _weights(model: "PeftModel") -> DecoderWeights:
    """Merged from the triplets that are left, so that the bytes are the same before and after a way through disk."""
    return merged(model, before=_thin)


def _thin(layer: Any) -> None:
    left = _left(layer)
    for name, kept in (("lora_A", left), ("lora_E", left), ("lora_B", (slice(None), left))):
        part = getattr(layer, name)
        part[ADAPTER] = nn.Parameter(part[ADAPTER].detach()[kept].contiguous())


METHOD = Method("adalora", AdaLoraOptions, _prepare, _save, _load, _weights, trains=True, merges=True, plan=_plan)
