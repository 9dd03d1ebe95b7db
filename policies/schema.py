"""The schema of a category file, and how a file becomes a `Category`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)
from pydantic_core.core_schema import ValidationInfo

from policies.guards.objections import GUARDS
from policies.model import Audit, Category, Load, Match, Mode, Scope, Stale
from policies.values import Duration, Share


def _known_guard(name: str) -> str:
    if name not in GUARDS:
        raise ValueError(f"should be one of the guards {', '.join(GUARDS)}")
    return name


GuardName = Annotated[str, AfterValidator(_known_guard)]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"should be a regular expression ({error})") from None
    return pattern


def _word(value: Any) -> Any:
    """Undoes YAML, which reads a bare `on` or `off` as a boolean."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
"""Lower case, digits, `_` and `-` only, as it is used in headers and metric labels."""
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Regex = Annotated[str, StringConstraints(min_length=1), AfterValidator(_compiles)]
Cosine = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MatchPart(_Part):
    models: list[Text] = []
    patterns: list[Regex] = []


class StalePart(_Part):
    while_revalidate: Duration = 0.0
    if_error: Duration = 0.0


class LoadPart(_Part):
    threshold_drop: Cosine = 0.0
    threshold_floor: Cosine = 0.0
    ttl_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    ttl_ceiling: Duration | None = None
    stale_at: Share | None = None
    renew_below: Share = 0.8
    share_flights: bool = True


class AuditPart(_Part):
    share: Share = 0.0
    per_hour: Annotated[int, Field(ge=0, le=100_000)] = 60
    threshold_floor: Cosine | None = None
    threshold_ceiling: Cosine = 0.98


class CategoryFile(_Part):
    # threshold and ttl must come before `load` and `audit`, whose validators look at them.
    name: Name
    threshold: Cosine
    ttl: Annotated[Duration, Field(gt=0)]
    description: str = ""
    match: MatchPart = MatchPart()
    examples: list[Text] = []
    examples_file: Text | None = None
    cacheable: bool = True
    scope: Scope = "tenant"
    mode: Annotated[Mode, BeforeValidator(_word)] = "on"
    stale: StalePart = StalePart()
    quota: Share = 0.0
    priority: Annotated[int, Field(ge=0)] = 1
    guards: list[GuardName] = ["language", "numbers", "negation", "identifiers", "entities"]
    load: LoadPart = LoadPart()
    audit: AuditPart = AuditPart()
    target_wrong_rate: Annotated[Share, Field(gt=0)] | None = None
    wrong_hit_costs: Duration = 60.0

    @field_validator("load")
    @classmethod
    def _bends_the_right_way(cls, load: LoadPart, info: ValidationInfo) -> LoadPart:
        if load.threshold_floor > info.data.get("threshold", 1.0):
            raise ValueError("has a threshold_floor above the threshold; lower the floor")
        if load.ttl_ceiling is not None and load.ttl_ceiling < info.data.get("ttl", 0.0):
            raise ValueError("has a ttl_ceiling below the ttl; raise the ceiling")
        return load

    @field_validator("audit")
    @classmethod
    def _moves_around_the_threshold(cls, audit: AuditPart, info: ValidationInfo) -> AuditPart:
        if (audit.threshold_floor or 0.0) > info.data.get("threshold", 1.0):
            raise ValueError("has a threshold_floor above the threshold; lower the floor")
        return audit

    def category(self, more_examples: list[str]) -> Category:
        """`more_examples`: the lines of `examples_file`."""
        load = self.load
        return Category(
            name=self.name,
            threshold=self.threshold,
            ttl=self.ttl,
            description=self.description,
            match=Match(tuple(self.match.models), tuple(self.match.patterns)),
            examples=(*self.examples, *more_examples),
            cacheable=self.cacheable,
            scope=self.scope,
            mode=self.mode,
            stale=Stale(self.stale.while_revalidate, self.stale.if_error),
            quota=self.quota,
            priority=self.priority,
            guards=tuple(self.guards),
            load=Load(
                threshold_drop=load.threshold_drop,
                threshold_floor=load.threshold_floor,
                ttl_factor=load.ttl_factor,
                ttl_ceiling=float("inf") if load.ttl_ceiling is None else load.ttl_ceiling,
                stale_at=load.stale_at,
                renew_below=load.renew_below,
                share_flights=load.share_flights,
            ),
            audit=Audit(**self.audit.model_dump()),
            target_wrong_rate=self.target_wrong_rate,
            wrong_hit_costs=self.wrong_hit_costs,
        )
