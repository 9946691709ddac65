"""Settings of the training loop, checked once."""

from dataclasses import dataclass, replace

from forecasting.errors import ConfigError, unknown

SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("float32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of the loop.

    steps: most steps. batch_size: windows a step, of all processes together. learning_rate: 0 takes the method's own.
    warm_up: share of the steps. evaluate_every: steps between validations, which with the ends of epochs are also the
    points a killed run resumes from. min_steps: never stop before. patience: validations without improvement before
    stopping. threads: of matrix products; results depend on it, so the default is 1 on every machine.

    epochs: passes over the training windows in the place of `steps`; 0 counts steps. accumulate: micro-batches in which
    each process takes its share of a step, one after the other. schedule: of the rate after the warm-up. precision: of
    matrix products in training; weights, updates and validation are float32 always. checkpointing: recompute
    activations in the backward pass instead of keeping them. keep_epochs: keep a checkpoint of every epoch. device:
    auto takes CUDA where there is one.
    """

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 0.0
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    evaluate_every: int = 25
    min_steps: int = 200
    patience: int = 4
    threads: int = 1
    epochs: int = 0
    accumulate: int = 1
    schedule: str = "linear"
    precision: str = "float32"
    checkpointing: bool = False
    keep_epochs: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "evaluate_every", "patience", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} is {getattr(self, name)}; give a whole number of at least 1")
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"training.accumulate is {self.accumulate}; give at most training.batch_size, {self.batch_size}: "
                "a micro-batch has at least one window"
            )
        if self.epochs < 0:
            raise ConfigError(f"training.epochs is {self.epochs}; give a positive number, or 0 to count steps instead")
        if not 0 <= self.learning_rate < 1:
            raise ConfigError(
                f"training.learning_rate is {self.learning_rate}; give 0 (the method's own) up to below 1"
            )
        if not 0 <= self.warm_up < 1:
            raise ConfigError(f"training.warm_up is {self.warm_up}; give a share of the steps from 0 to below 1")
        if self.weight_decay < 0 or self.min_steps < 0:
            raise ConfigError("training.weight_decay and training.min_steps must not be negative; 0 turns either off")
        if self.clip <= 0:
            raise ConfigError(f"training.clip is {self.clip}; give a positive gradient norm")
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS), ("device", DEVICES)):
            if getattr(self, name) not in known:
                raise ConfigError(unknown(f"training.{name}", getattr(self, name), known))

    def for_windows(self, count: int) -> "TrainingOptions":
        """The same for so many training windows, with `steps` in the place of `epochs`; the last epoch ends in full."""
        if not self.epochs:
            return self
        return replace(self, steps=-(-self.epochs * count // self.batch_size), epochs=0)
