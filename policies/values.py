"""Values as people write them in files: `7d`, `1h30m`, `40%`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_BARE = re.compile(r"\d+(?:\.\d+)?")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def seconds(value: Any) -> float:
    """`7d`, `1h30m`, `90s`, `500ms` or a number of seconds. The number may be a string, as it always is in a
    query, a header or an environment variable. Raises `ValueError`."""
    if _is_amount(value):
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if _BARE.fullmatch(text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text):
        raise ValueError("should be a duration such as 90s, 1h30m or 7d, or a number of seconds")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def fraction(value: Any) -> float:
    """`40%` or 0.4. Raises `ValueError`."""
    if isinstance(value, str) and (percent := _PERCENT.fullmatch(value.strip())):
        value = float(percent[1]) / 100.0
    if not _is_amount(value) or value > 1:
        raise ValueError("should be a share such as 40% or 0.4, at most 100%")
    return float(value)


def _is_amount(value: Any) -> bool:
    """Whether YAML gave a finite number that is not negative. `true` is an int to Python, but not here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


Duration = Annotated[float, BeforeValidator(seconds)]
"""Seconds, not negative, finite."""

Share = Annotated[float, BeforeValidator(fraction)]
"""0 to 1."""
