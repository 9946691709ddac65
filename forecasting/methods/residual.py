"""The residual bottleneck of which both kinds of adapter are made: x + up(dropout(f(down(x))))."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forecasting.decoder import Adapter, Product


class Bottleneck(nn.Module):
    """Linear(width -> m), f, dropout, Linear(m -> width) and a skip around; [..., width] to the same shape.

    f is the ReLU, or with `gelu` the tanh form of GELU that GPT-2 has. start: fills a matrix; biases begin at zero.
    """

    def __init__(
        self, width: int, m: int, start: Callable[[Tensor], Tensor], gelu: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, m)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(m, width)
        self.gelu = gelu
        for layer in (self.down, self.up):
            start(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to hidden states, or to what a half of a block adds to them."""
        inner = self.down(x)
        inner = F.gelu(inner, approximate="tanh") if self.gelu else torch.relu(inner)
        change: Tensor = self.up(self.dropout(inner))
        return x + change

    def packed(self) -> Adapter:
        """The same for the decode engine, dropout off."""
        down, up = ((layer.weight.detach().float().T, layer.bias.detach().float()) for layer in (self.down, self.up))
        return Adapter(Product(*down, gelu=self.gelu), Product(*up))
