"""The settings and their defaults. `settings_values` defines the format of values, `settings_sources` where
they are read from.

`python -m proxy.settings` prints the table in docs/settings.md.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from policies.located import Keys, nearest
from proxy.controls import NAMES, Name
from proxy.settings_values import (
    BY_COMMAS,
    IN_SECONDS,
    OR_OFF,
    PREFIX,
    SHARED_STORES,
    Collector,
    Count,
    Digest,
    DocumentStore,
    Duration,
    Host,
    Keyring,
    MetricsUrl,
    Origin,
    Port,
    RedisUrl,
    Size,
    Token,
    Tries,
    VariableOfOthers,
    VectorStore,
)

_USERINFO = re.compile(r"(?<=://)\S*@")
"""Greedy up to the last `@`, as a password may contain characters that would end a host."""
_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&\s]*", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def mask(text: str) -> str:
    """A URL without its user name, password and secret parameters; any other text as it is."""
    return _USERINFO.sub("***@", _SECRET_PARAMETER.sub(r"\1***", text))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, mask(value) if isinstance(value, str) else value


class _Origin(_Section):
    """The settings that every upstream has."""

    connect_timeout: Duration = Field(default=5.0, description="Longest wait for a connection.")
    first_byte_timeout: Duration = Field(
        default=600.0, description="Longest wait for the first byte of an answer, including retries."
    )
    idle_timeout: Duration = Field(default=600.0, description="Longest silence within an answer.")
    retries: Tries = Field(
        default=1,
        description="Retries, with growing pauses, when the upstream cannot be connected to.",
    )
    retry_on: Annotated[tuple[Literal["429", "5xx", "broken"], ...], BY_COMMAS] = Field(
        default=(),
        description="What else is retried that many times: `429`, `5xx`, `broken` (connected, but no answer)."
        " The upstream may have done the work of the first try, and charge for it.",
    )
    limit: Annotated[Literal["off", "auto"] | Count, OR_OFF] = Field(
        default="off",
        description="Most concurrent calls to the upstream: a number, `auto` (learned), or `off`.",
    )
    queue: Count = Field(
        default=256, description="Most calls waiting for a place under that limit; any more get a 429."
    )
    queue_timeout: Duration = Field(default=10.0, description="Longest wait for a place; then a 429.")
    capacity: Count | None = Field(
        default=None,
        description="Calls that it can serve at once; used to measure its pressure. None: learned.",
    )
    metrics_url: MetricsUrl | None = Field(
        default=None,
        description="Its own Prometheus metrics: a URL, or a path such as `/metrics`. None: not scraped.",
    )
    metrics_waiting: str = Field(
        default="vllm:num_requests_waiting", description="Metric with the calls waiting there."
    )
    metrics_running: str = Field(
        default="vllm:num_requests_running", description="Metric with the calls being served there."
    )
    metrics_cache: str = Field(
        default="vllm:kv_cache_usage_perc", description="Metric with the share of its cache in use, 0 to 1."
    )


class Upstream(_Origin):
    """The only upstream, or the defaults for each of `upstreams`."""

    url: Origin | None = Field(
        default=None,
        description="Origin of the API, without `/v1`. None: the demo upstream, started with the proxy.",
    )
    stale_after: Duration = Field(
        default=10.0,
        description="How long to wait for the upstream before serving a stale answer within "
        "`stale.if_error`, if there is one; or twice the time that the stale answer took, if that is longer.",
    )
    finish_share: Annotated[Annotated[float, Field(ge=0.0, le=1.0)] | Literal["off"], OR_OFF] = Field(
        default=0.7,
        description="If all callers have left, an answer is still finished and stored once this share of its "
        "usual time has passed. `off`: it is given up when the last caller leaves.",
    )
    queue_keep_alive: Duration | None = Field(
        default=None,
        description="Interval of comments (`: keep-alive`) sent to callers of event streams who wait for a "
        "place under `limit`. Their status is then 200, whatever follows. None: no comments.",
    )


class NamedUpstream(_Origin):
    """One of several."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    url: Origin
    models: Annotated[tuple[str, ...], BY_COMMAS, Field(min_length=1)] = ("*",)
    """Shell patterns."""
    aliases: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """The names of models at this upstream, by the name that callers use."""
    fallback: Annotated[tuple[str, ...], BY_COMMAS] = ()
    """Names of the upstreams that stand in for it."""
    key_env: VariableOfOthers | None = None
    """Environment variable with a key that replaces every caller's."""
    key_header: Literal["authorization", "x-api-key", "api-key", "x-goog-api-key"] | None = None
    """None: the header of the caller's dialect."""


ONLY = "upstream"
"""Name of the upstream if there is only one."""


class Listen(_Section):
    host: Host = Field(default="127.0.0.1", description="Address of the data plane.")
    port: Port = Field(default=8080, description="Port of the data plane; 0 picks a free one.")


class Admin(_Section):
    host: Host = Field(
        default="127.0.0.1", description="Address of the admin plane; loopback only, unless a token is set."
    )
    port: Port = Field(default=8081, description="Port of the admin plane; 0 picks a free one.")
    token: Token | None = Field(default=None, description="Bearer token that the admin plane requires.")
    show_text: bool = Field(
        default=True,
        description="Whether the admin plane shows the texts of questions and answers.",
    )

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Admin:
        if not (self.token and self.token.get_secret_value()) and not is_loopback(self.host):
            raise ValueError(f"would listen on {self.host} without a token; set admin.token or use 127.0.0.1")
        return self


class Embedding(_Section):
    kind: Literal["local", "onnx", "sentence-transformers"] = Field(
        default="local",
        description="`onnx` (lean, CPU), `sentence-transformers` (the `gpu` extra), or `local`: "
        "the latter if there is a GPU for it, else the former.",
    )
    model: str | None = Field(
        default=None, description="Folder of the model. None: the installed all-MiniLM-L6-v2."
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        default="auto",
        description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`; `auto` uses a GPU if there is one.",
    )
    queue: Count = Field(default=256, description="Most texts waiting for the encoder; any more are a miss.")
    deadline: Duration = Field(default=2.0, description="Longest wait for a vector; then it is a miss.")


class Documents(_Section):
    url: DocumentStore = Field(
        default="sqlite+aiosqlite:///data/nearhit.db",
        description="Where answers are kept: `sqlite+aiosqlite:///PATH` (relative to the working directory), "
        "`postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE` (needs the driver asyncpg), "
        "`redis://:PASSWORD@HOST/NUMBER` or `rediss://` with TLS (needs the driver redis), or `memory`.",
    )
    keys: Keyring = Field(
        default=(),
        description="From the environment only: 32-byte keys in base64, separated by commas, that encrypt "
        "questions, vectors and answers at rest. The first one encrypts, all of them decrypt (needs the "
        "package cryptography).",
    )
    hot_bytes: Size = Field(default=64 * 2**20, description="Bytes of answers that are also kept in memory.")


class Index(_Section):
    url: VectorStore = Field(
        default="memory",
        description="Where vectors are kept and searched: `memory` or, if that is too small, "
        "`postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE` with pgvector (needs the driver asyncpg; "
        "[scaling.md](scaling.md)). Two document stores must not share one database of vectors.",
    )
    deadline: Duration = Field(
        default=0.25, description="Longest wait for a search in PostgreSQL; then it is a miss."
    )


class Replication(_Section):
    url: RedisUrl | None = Field(
        default=None,
        description="Redis through which the replicas of one document store tell each other what changed: "
        "`redis://:PASSWORD@HOST/NUMBER` or `rediss://` with TLS (needs the driver redis). None: none.",
    )
    lease: Annotated[Literal["off"] | Duration, OR_OFF] = Field(
        default=5.0,
        description="Longest wait while another replica is asking the upstream the same question; then this "
        "call is sent upstream too. `off`: no wait.",
    )


class Capacity(_Section):
    entries: Count = Field(default=100_000, description="Most entries in memory.")
    bytes: Size | None = Field(default=None, description="Most bytes of stored answers. None: no limit.")


class Replay(_Section):
    tokens_per_second: Count | None = Field(
        default=None, description="Pace of streams replayed from the cache. None: all at once."
    )


class Tenancy(_Section):
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = Field(
        default="Authorization",
        description="Header whose digest tells tenants apart; its value is never stored.",
    )
    anonymous: Literal["bypass", "share"] = Field(
        default="bypass",
        description="Callers without that header: `bypass` the cache, or `share` one tenant.",
    )


class Controls(_Section):
    allow: Annotated[tuple[Name, ...] | None, BY_COMMAS] = Field(
        default=None,
        description="Controls that callers may use, whatever the name of the header; others are ignored. "
        f"None: all of them, which are {', '.join(f'`{name}`' for name in NAMES)}.",
    )
    trusted: Annotated[tuple[Digest, ...], BY_COMMAS] = Field(
        default=(),
        description="Callers who may use all controls: the first 8 to 32 characters of their digests, "
        "which the log shows as `tenant`.",
    )


class Limits(_Section):
    body_bytes: Size = Field(default=32 * 2**20, description="Largest body of a call; larger ones get a 413.")
    in_flight: Count = Field(default=1024, description="Most calls served at once; any more get a 429.")
    parse_bytes: Size = Field(
        default=2**20, description="Largest body that is parsed; larger ones pass through uncached."
    )
    answer_bytes: Size = Field(default=8 * 2**20, description="Largest answer that is stored.")


class Audit(_Section):
    pairs: Path | None = Field(
        default=None,
        description="File to which audited pairs of questions are appended, in clear text, "
        "for `nearhit tune`.",
    )


class Judge(_Section):
    url: Origin | None = Field(
        default=None,
        description="Origin of an OpenAI-compatible API that compares answers. None: no judge.",
    )
    model: str = Field(default="gpt-4o-mini", description="Model that judges.")
    key: Token | None = Field(default=None, description="API key for it, sent as a bearer token.")
    timeout: Duration = Field(default=30.0, description="Longest wait for a verdict; then there is none.")


class Log(_Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="One line of text per record, or one JSON object."
    )
    trace: Path | None = Field(
        default=None,
        description="File to which every call is appended, with its question in clear text, for "
        "`nearhit simulate`.",
    )


class Tracing(_Section):
    endpoint: Collector | None = Field(
        default=None,
        description="Collector of OpenTelemetry traces over HTTP, e.g. `http://collector:4318` "
        "(needs the `otel` extra). None: no traces.",
    )


class Settings(_Section):
    upstream: Upstream = Upstream()
    upstreams: tuple[NamedUpstream, ...] = Field(
        default=(),
        description="Several upstreams, in the file only; [upstreams.md](upstreams.md) lists the settings of "
        "each. Their defaults come from `upstream`.",
    )
    listen: Listen = Listen()
    admin: Admin = Admin()
    categories: Path | None = Field(
        default=None, description="Folder of category files. None: the packaged ones."
    )
    prices: Path | None = Field(
        default=None, description="File with the prices of models. None: the packaged one."
    )
    history: Path | None = Field(
        default=None,
        description="File for counts over time. None: next to a SQLite document store; with any other store, "
        "they are lost at exit.",
    )
    embedding: Embedding = Embedding()
    documents: Documents = Documents()
    index: Index = Index()
    replication: Replication = Replication()
    capacity: Capacity = Capacity()
    replay: Replay = Replay()
    tenancy: Tenancy = Tenancy()
    controls: Controls = Controls()
    limits: Limits = Limits()
    expose_scores: bool = Field(
        default=False,
        description="Send similarity and threshold with every answer, not only with `X-Nearhit-Debug: 1`.",
    )
    audit: Audit = Audit()
    judge: Judge = Judge()
    log: Log = Log()
    tracing: Tracing = Tracing()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        """A section whose keys are all commented out is `None` in YAML."""
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @property
    def simulated(self) -> bool:
        """Whether the demo upstream answers, as no upstream is set."""
        return self.upstream.url is None and not self.upstreams

    def fleet(self, url: str) -> tuple[NamedUpstream, ...]:
        """Every upstream with its settings resolved. `url`: of the only upstream, if the settings name
        none."""
        common = {name: getattr(self.upstream, name) for name in _Origin.model_fields}
        if not self.upstreams:
            return (NamedUpstream(name=ONLY, url=url, **common),)
        return tuple(
            each.model_copy(update={n: v for n, v in common.items() if n not in each.model_fields_set})
            for each in self.upstreams
        )

    def masked(self) -> dict[str, Any]:
        """Plain values for printing, secrets as `***`."""
        shown: dict[str, Any] = _masked(self.model_dump(mode="json"))
        if self.admin.token:
            shown["admin"]["token"] = "***"
        shown["documents"]["keys"] = ["***" for _ in self.documents.keys]
        if self.judge.key:
            shown["judge"]["key"] = "***"
        return shown


def misfits(settings: Settings) -> Iterator[tuple[Keys, str]]:
    """Settings that do not fit each other: where, and what is wrong."""
    if settings.replication.url and not settings.documents.url.startswith(SHARED_STORES):
        message = "replication.url: replicas share their documents; set documents.url to PostgreSQL or Redis"
        yield ("replication", "url"), message
    if settings.documents.keys and settings.index.url != "memory":
        message = "index.url: vectors would be stored there unencrypted despite documents.keys; use memory"
        yield ("index", "url"), message
    names = [each.name for each in settings.upstreams]
    if names and settings.upstream.url is not None:
        yield ("upstream", "url"), "upstream.url: cannot be set together with upstreams; move it there"
    for place, each in enumerate(settings.upstreams):
        if each.name in names[:place]:
            yield (
                ("upstreams", place, "name"),
                f"upstreams.{place}.name: {each.name!r} is taken; choose another",
            )
        others = [name for name in names if name != each.name]
        for unknown in set(each.fallback) - set(others):
            message = f"upstreams.{place}.fallback: no other upstream {unknown!r}; {nearest(unknown, others)}"
            yield ("upstreams", place, "fallback"), message


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return mask(value) if isinstance(value, str) else value


def settings_fields() -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Each setting: its path and its field."""
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            yield from (((section, name), each) for name, each in field.annotation.model_fields.items())
        else:
            yield (section,), field


def table() -> str:
    """Every setting as a Markdown table."""
    rows = ["| setting | environment | default | |", "|---|---|---|---|"]
    for name, field in settings_fields():
        default = "none" if field.default in (None, ()) else f"`{_default(field)}`"
        rows.append(f"| `{'.'.join(name)}` | `{variable(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}s" if _in_seconds(field.annotation, *field.metadata) else f"{value:g}"
    if isinstance(value, int) and value % 2**20 == 0 and value:
        return f"{value // 2**20}MiB"
    return str(value)


def _in_seconds(*parts: Any) -> bool:
    return IN_SECONDS in parts or any(_in_seconds(*get_args(part)) for part in parts)


def variable(name: tuple[str, ...]) -> str:
    return PREFIX + "__".join(name).upper()


if __name__ == "__main__":
    print(table(), end="")
