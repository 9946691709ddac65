"""What the training benchmark credits a side with is what that side does."""

import pytest
from torch import nn

from benchmarks import training
from benchmarks.bench import bench_model


class Enough(BaseException):
    """Ends a side after its first step."""


@pytest.mark.parametrize("side", training.SIDES)
def test_a_side_is_credited_with_the_positions_it_runs_the_model_on(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def watched() -> nn.Module:
        model = bench_model()

        def look(module: nn.Module, _: object, given: dict[str, nn.Module]) -> None:
            if module.training:
                seen.append(tuple(given["input_ids"].shape))  # type: ignore[arg-type]

        model.register_forward_pre_hook(look, with_kwargs=True)
        return model

    def turn() -> None:
        raise Enough

    monkeypatch.setattr(training, "bench_model", watched)
    monkeypatch.setattr(training, "WINDOWS", 10 * training.BATCH)
    with pytest.raises(Enough):
        training.SIDES[side](turn)
    assert seen == [(training.BATCH, training.POSITIONS[side])]
