"""Azure's older paths of OpenAI's API, which name a deployment: a model in the body counts for nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, cast
from urllib.parse import unquote

from proxy.dialects import openai_chat, openai_completions
from proxy.dialects.base import Dialect, JsonObject, Reading

APIS = {"chat/completions": openai_chat, "completions": openai_completions}
_PATH = re.compile(r"/openai/deployments/([^/]+)/(" + "|".join(APIS) + ")")

_NAME = re.compile(r"[^/:\ufffd]{1,512}")
"""U+FFFD stands for bytes that are no UTF-8: two such names could be taken for one another."""


def of(path: str) -> Dialect | None:
    """The dialect of a path as it came. None: another path."""
    found = _PATH.fullmatch(path)
    if found is None or not _NAME.fullmatch(name := unquote(found[1])):
        return None
    return cast(Dialect, _Deployed(APIS[found[2]], name))


@dataclass(frozen=True, slots=True)
class _Deployed:
    """A dialect of OpenAI's with the model named in the path."""

    api: ModuleType
    model: str

    def read(self, body: JsonObject) -> Reading | None:
        reading: Reading | None = self.api.read({**body, "model": self.model})
        return reading and replace(reading, identity={**reading.identity, "model": body.get("model")})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)
