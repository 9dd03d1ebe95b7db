"""What models cost: a table of prices per million tokens, in a YAML file."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from policies.located import load

PACKAGED = Path(__file__).with_name("prices.yaml")

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Part):
    models: Annotated[list[Text], Field(min_length=1)]
    """Shell patterns over the model's name."""
    input: Amount
    """Per million tokens."""
    output: Amount


class PriceFile(_Part):
    as_of: date
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    lookup: Amount = 0.0
    """Price of embedding one question."""
    prices: list[Price]


class Prices:
    """The first matching pattern decides; a model that matches none has no price."""

    def __init__(self, file: PriceFile) -> None:
        self.as_of = file.as_of
        self.currency = file.currency
        self.lookup = file.lookup
        self._prices = file.prices
        self._of = lru_cache(1024)(self._find)

    @classmethod
    def read(cls, path: Path | None) -> Prices:
        """From a file, or the packaged prices for None. Raises `ConfigError`."""
        return cls(load(path or PACKAGED, PriceFile))

    def cost(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """None if the price or the number of tokens is not known."""
        price = self._of(model)
        if price is None or not tokens_in + tokens_out:
            return None
        return (tokens_in * price.input + tokens_out * price.output) / 1e6

    def _find(self, model: str) -> Price | None:
        return next((p for p in self._prices if any(fnmatchcase(model, each) for each in p.models)), None)
