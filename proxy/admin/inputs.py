"""The input of the admin plane's endpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from policies.values import Duration
from proxy.admin.errors import Refusal

M = TypeVar("M", bound=BaseModel)

MOST_TEXT = 20_000
Text = Annotated[str, Field(min_length=1, max_length=MOST_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Tenant = Annotated[str, Field(pattern="^(shared|[0-9a-f]{8,32})$")]
"""As in `recent` and the log: the beginning of the digest, or `shared`."""
CRITERIA = ("category", "tenant", "namespace", "tag", "model", "older_than", "like")


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Window(_Input):
    window: Annotated[Duration, Field(gt=0, le=30 * 86400)] = Field(
        default=3600.0, description="Seconds, or 15m, 24h, 30d"
    )
    category: Name | None = Field(default=None, description="Only this category")
    total: bool = Field(default=False, description="One sum of all, as `total` instead of `categories`")


class Recent(_Input):
    limit: int = Field(default=100, ge=1, le=1000)


class Listing(_Input):
    category: Name | None = None
    q: Name | None = Field(default=None, description="Part of the stored question; case is ignored")
    limit: int = Field(default=100, ge=1, le=500)


class Explained(_Input):
    text: Text = Field(validation_alias=AliasChoices("text", "query"))
    model: Name | None = Field(default=None, description="Only entries of this model; also used by rules")
    category: Name | None = Field(default=None, description="As in X-Nearhit-Category")
    tenant: Tenant | None = Field(default=None, description="Only entries of this tenant")


class Feedback(_Input):
    entry_id: Name = Field(description="From X-Cache-Entry-Id")
    verdict: Literal["wrong", "right"]


class CategoryText(_Input):
    text: str = Field(max_length=200_000, description="The category file, as YAML")


class PurgeOrder(_Input):
    """Criteria combine with AND."""

    category: Name | None = None
    tenant: Tenant | None = None
    namespace: Name | None = None
    tag: Name | None = None
    model: Name | None = None
    older_than: Duration | None = Field(
        default=None,
        validation_alias=AliasChoices("older_than", "age"),
        description="Seconds, or 90s, 1h30m, 7d",
    )
    like: Text | None = Field(
        default=None,
        validation_alias=AliasChoices("like", "similar_text"),
        description="Entries whose question is similar to this text",
    )
    threshold: float = Field(default=0.9, ge=0, le=1, description="Lowest cosine to `like`")
    everything: bool = False
    confirm: bool = Field(default=False, description="Required for `everything`")
    dry_run: bool = Field(default=False, description="Only count, and change nothing")

    @model_validator(mode="after")
    def _means_something(self) -> PurgeOrder:
        given = [name for name in CRITERIA if getattr(self, name) is not None]
        if self.everything and given:
            raise ValueError(f"everything takes no criteria; leave out {', '.join(given)} or everything")
        if not self.everything and not given:
            raise ValueError(f"give at least one of {', '.join(CRITERIA)}, or everything")
        if self.everything and not (self.confirm or self.dry_run):
            raise ValueError("everything needs confirm: true (or dry_run: true to count)")
        if "threshold" in self.model_fields_set and self.like is None:
            raise ValueError("threshold belongs to like; give both")
        return self


def understood(model: type[M], data: Any) -> M:
    """The data as an instance of `model`. Raises `Refusal` with all problems in one line."""
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        raise Refusal("; ".join(map(_complaint, invalid.errors(include_url=False)))) from None


def _complaint(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    name = ".".join(map(str, error["loc"]))
    return f"{name}: {message}" if name else message
