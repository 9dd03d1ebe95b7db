from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.errors import ConfigError
from proxy.settings import NamedUpstream, Settings, settings_fields, table
from proxy.settings_sources import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_text(text: str, environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    Path("some.yaml").write_text(text)
    return load_settings(Path("some.yaml"), environ or {}, overrides)


def complaints(text: str, environ: dict[str, str] | None = None, **overrides: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        from_text(text, environ, **overrides)
    return str(error.value).split("\n")


# ------------------------------------------------------------------------------------------------- layers


def test_the_defaults_are_those_of_the_contract():
    settings = load_settings(None, {}, {})
    assert settings.upstream.url is None
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8080)
    assert (settings.admin.host, settings.admin.port, settings.admin.token) == ("127.0.0.1", 8081, None)
    assert settings.categories is None
    assert settings.documents.url == "sqlite+aiosqlite:///data/nearhit.db"
    assert (settings.capacity.entries, settings.capacity.bytes) == (100_000, None)
    assert (settings.tenancy.header, settings.tenancy.anonymous) == ("Authorization", "bypass")


def test_flags_win_over_the_environment_and_that_over_the_file():
    text = "listen: {port: 1}\nadmin: {port: 1}\nlog: {level: error}\n"
    environ = {"NEARHIT_ADMIN__PORT": "2", "NEARHIT_LISTEN__PORT": "2", "NEARHIT_LIMITS__IN_FLIGHT": "2"}
    settings = from_text(text, environ, **{"listen.port": 3, "log.level": None})
    assert (settings.listen.port, settings.admin.port, settings.limits.in_flight) == (3, 2, 2)
    assert settings.log.level == "error"


def test_the_file_is_the_named_one_then_that_of_the_environment_then_the_one_here():
    for name, port in (("nearhit.yaml", 1), ("env.yaml", 2), ("named.yaml", 3)):
        Path(name).write_text(f"listen: {{port: {port}}}")
    environ = {"NEARHIT_CONFIG": "env.yaml"}
    assert load_settings(None, {}, {}).listen.port == 1
    assert load_settings(None, environ, {}).listen.port == 2
    assert load_settings(Path("named.yaml"), environ, {}).listen.port == 3


def test_a_named_file_that_is_missing_is_an_error():
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_settings(Path("none.yaml"), {}, {})


def test_values_may_be_written_as_people_write_them():
    text = "upstream: {connect_timeout: 500ms, idle_timeout: 1m30s}\nlimits: {body_bytes: 2 KiB}\n"
    environ = {
        "NEARHIT_UPSTREAM__FIRST_BYTE_TIMEOUT": "2.5",
        "NEARHIT_CAPACITY__BYTES": "3GiB",
        "NEARHIT_EXPOSE_SCORES": "true",
        "NEARHIT_ADMIN__TOKEN": "0123",
        "NEARHIT_CATEGORIES": "a/b",
        "NEARHIT_UPSTREAM__URL": "https://example.com/prefix/",
    }
    settings = from_text(text, environ)
    upstream = settings.upstream
    assert (upstream.connect_timeout, upstream.idle_timeout, upstream.first_byte_timeout) == (0.5, 90, 2.5)
    assert (settings.limits.body_bytes, settings.capacity.bytes) == (2048, 3 * 2**30)
    assert settings.expose_scores is True
    assert settings.admin.token is not None
    assert settings.admin.token.get_secret_value() == "0123"
    assert settings.categories == Path("a/b")
    assert upstream.url == "https://example.com/prefix"


@pytest.mark.parametrize("text", ["", "upstream:\n", "# nothing\n"])
def test_what_is_commented_out_is_not_set(text):
    assert from_text(text, {"NEARHIT_UPSTREAM__URL": ""}) == load_settings(None, {}, {})
    assert from_text(text, {"NEARHIT_UPSTREAM__URL": "http://a"}).upstream.url == "http://a"


# ------------------------------------------------------------------------------------------------ mistakes


def test_an_unknown_key_names_file_line_and_the_nearest_key():
    [line] = complaints("listen:\n  port: 1\n  hots: a\n")
    assert line == "some.yaml:3: unknown key 'listen.hots'; did you mean 'host'?"


@pytest.mark.parametrize("name", ["NEARHIT_UPSTREAM_URL", "NEARHIT_UPSTREAM__URI", "NEARHIT_UPSTREM__URL"])
def test_an_unknown_variable_names_itself_and_the_nearest_one(name):
    assert complaints("", {name: "http://a"}) == [
        f"{name}: unknown setting; did you mean 'NEARHIT_UPSTREAM__URL'?"
    ]


def test_variables_that_are_no_settings_are_left_alone():
    environ = {
        "NEARHIT_DATA": "/data",
        "NEARHIT_SERVICE_HOST": "10.0.0.1",
        "NEARHIT_SERVICE_PORT_HTTP": "8080",
        "NEARHIT_PORT": "tcp://10.0.0.1:8080",
        "NEARHIT_PORT_8080_TCP_ADDR": "10.0.0.1",
        "NEARHIT_ADMIN_SERVICE_HOST": "10.0.0.2",
        "PATH": "/bin",
    }
    assert from_text("", environ) == load_settings(None, {}, {})
    assert complaints("", {"NEARHIT_ADMIN_PORT": "9"})


def test_a_mistake_is_placed_where_the_value_came_from():
    text = "listen: {port: 1}\nlog:\n  level: loud\n"
    environ = {"NEARHIT_ADMIN__PORT": "many"}
    lines = complaints(text, environ, **{"listen.port": 70000})
    places = [line.split(": ")[0] for line in lines]
    assert sorted(places) == ["--listen-port", "NEARHIT_ADMIN__PORT", "some.yaml:3"]


@pytest.mark.parametrize("password", ["a#b", "a?b", "a/b", "a@b", "a:b", "#a@b?c"])
def test_passwords_with_signs_of_urls_are_masked_and_taken(password):
    settings = from_text(f"documents: {{url: 'postgresql+asyncpg://me:{password}@db:5432/x'}}\n")
    assert settings.masked()["documents"]["url"] == "postgresql+asyncpg://***@db:5432/x"
    complaint = "\n".join(complaints(f"upstream: {{url: 'http://me:{password}@api'}}\n"))
    assert "'http://***@api'" in complaint


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("documents", "postgresql+asyncpg://me:s3cret@db:port/x"),
        ("documents", "redis://db:99999/0"),
        ("index", "postgresql+asyncpg://db:5x/x"),
        ("replication", "redis://:s3cret@db:port"),
        ("upstream", "http://[::1]:port"),
    ],
)
def test_a_port_that_is_no_number_is_told(setting, url):
    [complaint] = complaints(f"{setting}: {{url: '{url}'}}\n")
    assert "should have a number up to 65535 as its port" in complaint
    assert "s3cret" not in complaint


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "listen: 8080",
        "listen: {port: true}",
        "listen: {port: 70000}",
        "listen: {host: ''}",
        "capacity: {entries: 0}",
        "capacity: {entries: 1.5}",
        "capacity: {bytes: 3 MB}",
        "upstream: {connect_timeout: 0}",
        "upstream: {connect_timeout: soon}",
        "upstream: {url: api.openai.com}",
        "upstream: {url: 'ftp://a'}",
        "upstream: {url: 'http://[::1'}",
        "upstream: {url: 'http://a/?x=1'}",
        "documents: {url: 'mysql://a/b'}",
        "documents: {url: 'sqlite:///a.db'}",
        "embedding: {kind: magic}",
        "embedding: {device: tpu}",
        "tenancy: {header: 'a b'}",
        "tenancy: {anonymous: maybe}",
        "expose_scores: maybe",
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_own(text):
    [line] = complaints(text)
    assert line.startswith("some.yaml:1: ") or text == "- a"


NO_HOSTS = ("a..b", f"{'a' * 64}.com", "a b", "a/b c", "a?", "a#", r"a\b")


@pytest.mark.parametrize("rest", NO_HOSTS)
def test_an_upstream_that_no_call_could_reach_is_told(rest: str) -> None:
    (line,) = complaints("", {"NEARHIT_UPSTREAM__URL": f"http://{rest}"})
    assert "should be an origin" in line


@pytest.mark.parametrize("url", ["http://ä.example", "http://[::1]:80/path", "HTTP://gpu_box:8000"])
def test_any_other_upstream_is_taken(url: str) -> None:
    assert from_text("", {"NEARHIT_UPSTREAM__URL": url}).upstream.url == url


@pytest.mark.parametrize("name", ["ADMIN__TOKEN", "JUDGE__KEY"])
def test_a_secret_of_a_header_is_one_line_of_ascii(name: str) -> None:
    taken = from_text("", {f"NEARHIT_{name}": "from a file\n"})
    secret = taken.admin.token or taken.judge.key
    assert secret is not None
    assert secret.get_secret_value() == "from a file"
    for text in ("two\nlines", "schlüssel"):
        (line,) = complaints("", {f"NEARHIT_{name}": text})
        assert "one line of ASCII" in line
        assert text not in line


def test_a_url_that_ends_in_v1_is_told_why_not():
    assert "/v1" in complaints("upstream: {url: 'https://api.openai.com/v1'}")[0]


def test_replication_needs_a_redis_and_documents_that_replicas_share():
    assert "redis://" in complaints("replication: {url: 'https://a'}")[0]
    assert "documents.url" in complaints("replication: {url: 'redis://a'}")[0]
    settings = from_text("replication: {url: 'redis://a', lease: off}\ndocuments: {url: 'redis://b'}")
    assert settings.replication.url == "redis://a"
    assert settings.replication.lease == "off"
    assert from_text("replication: {lease: 2s}").replication.lease == 2.0


def test_vectors_lie_in_memory_or_in_postgresql():
    assert "postgresql+asyncpg" in complaints("index: {url: 'redis://a'}")[0]
    settings = from_text("index: {url: 'postgresql+asyncpg://me:s3cret@a/b', deadline: 100ms}")
    assert settings.index.deadline == 0.1
    assert settings.masked()["index"]["url"] == "postgresql+asyncpg://***@a/b"
    assert "s3cret" not in repr(settings)


def test_vectors_in_the_clear_do_not_stand_beside_sealed_documents():
    keys = {"NEARHIT_DOCUMENTS__KEYS": b64encode(bytes(32)).decode()}
    environment = keys | {"NEARHIT_INDEX__URL": "postgresql+asyncpg://me:s3cret@a/b"}
    with pytest.raises(ConfigError) as error:
        load_settings(None, environment, {})
    [line] = str(error.value).splitlines()
    assert line.startswith("NEARHIT_INDEX__URL")
    assert "unencrypted" in line
    assert "s3cret" not in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com"])
def test_without_a_token_the_admin_plane_stays_on_loopback(host):
    assert "token" in complaints(f"admin: {{host: '{host}'}}")[0]
    assert complaints(f"admin: {{host: '{host}', token: ''}}")
    assert from_text(f"admin: {{host: '{host}', token: t}}").admin.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    assert from_text(f"admin: {{host: '{host}'}}").admin.token is None


# ------------------------------------------------------------------------------------------------- secrets


def test_secrets_are_masked_wherever_settings_are_shown():
    url = "postgresql+asyncpg://me:s3c@ret@db:5432/x?password=s3c@ret&timeout=5"
    settings = from_text(f"admin: {{token: s3c@ret}}\ndocuments: {{url: '{url}'}}\n")
    assert settings.documents.url == url
    shown = settings.masked()
    assert shown["admin"]["token"] == "***"
    assert shown["documents"]["url"] == "postgresql+asyncpg://***@db:5432/x?password=***&timeout=5"
    for text in (repr(settings), str(settings), repr(settings.admin), str(shown)):
        assert "s3c" not in text
        assert "ret@" not in text
    assert load_settings(None, {}, {}).masked()["admin"]["token"] is None


@pytest.mark.parametrize(
    "text",
    [
        "upstream: {url: 'https://user:s3cret@example.com'}",
        "upstream: {url: 'https://user:s3cret%s@example.com'}" % ("x" * 60),
        "documents: {url: 'mysql://user:s3cret@db/x'}",
        "replication: {url: 'redis://:s3cret@db'}",
        "admin: {token: [s3cret]}",
    ],
)
def test_secrets_are_masked_in_complaints(text):
    assert "s3cret" not in "\n".join(complaints(text))


# ---------------------------------------------------------------------------------------------------- docs


def test_every_setting_is_described_in_one_line():
    fields = dict(settings_fields())
    assert len(fields) > 20
    for name, field in fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert "\n" not in field.description, name


def test_the_table_in_the_docs_is_the_one_of_the_code():
    text = (ROOT / "docs/settings.md").read_text()
    assert table() in text, "put the output of `python -m proxy.settings` into docs/settings.md"


@pytest.mark.parametrize("row", table().splitlines()[2:])
def test_a_default_may_be_set_as_the_table_has_it(row: str) -> None:
    variable, shown = (cell.strip(" `") for cell in row.split(" | ")[1:3])
    environ = {} if shown == "none" else {variable: shown}
    assert load_settings(None, environ, {}) == load_settings(None, {}, {})


def test_the_example_file_holds_and_names_only_settings():
    text = (ROOT / "nearhit.example.yaml").read_text()
    assert from_text(text).upstream.url == "https://api.openai.com"
    uncommented = [line.replace("# ", "", 1) for line in text.splitlines() if ": ./" in line]
    assert yaml.safe_load("\n".join(uncommented)).keys() == {"categories"}


KEYS = ["ab" * 21 + "c=", "cd" * 21 + "c="]


def test_sealing_keys_come_from_the_environment_in_their_order_and_are_never_shown() -> None:
    settings = from_text("", {"NEARHIT_DOCUMENTS__KEYS": ", ".join(KEYS)})
    assert [key.get_secret_value() for key in settings.documents.keys] == KEYS
    assert settings.masked()["documents"]["keys"] == ["***", "***"]
    assert KEYS[0] not in repr(settings)


def test_sealing_keys_in_a_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "nearhit.yaml"
    file.write_text(f"documents:\n  keys: [{KEYS[0]}]\n")
    with pytest.raises(ConfigError, match=r"nearhit.yaml:2.*NEARHIT_DOCUMENTS__KEYS") as caught:
        load_settings(file, {}, {})
    assert KEYS[0] not in str(caught.value)


def test_a_bad_sealing_key_is_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigError, match="32 bytes in base64") as caught:
        from_text("", {"NEARHIT_DOCUMENTS__KEYS": f"{KEYS[0]},tooshortsecret"})
    assert "tooshort" not in str(caught.value)
    assert KEYS[0] not in str(caught.value)


# -------------------------------------------------------------------------------------- several upstreams

FLEET = """
upstream: {connect_timeout: 1s, limit: 8}
upstreams:
  - name: openai
    url: https://api.openai.com
    models: [gpt-*, o1]
    fallback: [vllm]
  - name: vllm
    url: http://vllm:8000/base/
    limit: off
    aliases: {gpt-4o: llama}
"""


def test_what_an_upstream_leaves_out_is_taken_from_the_common_section():
    openai, vllm = from_text(FLEET).fleet("")
    assert (openai.connect_timeout, openai.limit, openai.models) == (1.0, 8, ("gpt-*", "o1"))
    assert (vllm.connect_timeout, vllm.limit, vllm.models) == (1.0, "off", ("*",))
    assert (vllm.url, vllm.aliases) == ("http://vllm:8000/base", {"gpt-4o": "llama"})


def test_one_url_is_one_upstream_for_every_model():
    (only,) = from_text("upstream: {url: http://a, retries: 3}").fleet("http://a")
    assert (only.name, only.url, only.models, only.retries) == ("upstream", "http://a", ("*",), 3)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("{name: a, url: http://a, modles: [x]}", "unknown key 'upstreams.0.modles'; did you mean 'models'?"),
        ("{name: a}", "'upstreams.0.url' is missing; add it"),
        ("{name: a, url: http://a, fallback: [b]}", "no other upstream 'b'"),
        ("{name: a, url: http://a, fallback: [a]}", "no other upstream 'a'"),
        ("{name: A b, url: http://a}", "upstreams.0.name"),
        ("{name: a, url: http://a, models: []}", "upstreams.0.models"),
        ("{name: a, url: http://a, retries: 11}", "upstreams.0.retries"),
        ("{name: a, url: http://a, retry_on: [4xx]}", "upstreams.0.retry_on"),
        ("{name: a, url: http://u:p@a}", "should have no user name or password"),
        ("{name: a, url: http://a, key_env: NEARHIT_KEY}", "must not begin with NEARHIT_"),
    ],
)
def test_a_mistake_in_an_upstream_is_one_line_that_names_its_place(wrong: str, complaint: str):
    (line,) = complaints(f"upstreams:\n  - {wrong}\n")
    assert line.startswith("some.yaml:2: ")
    assert complaint in line
    assert ":p@" not in line


def test_upstreams_that_do_not_fit_together():
    two = "upstreams:\n  - {name: alpha, url: http://a, fallback: [bet]}\n  - {name: beta, url: http://b}\n"
    assert complaints(two) == [
        "some.yaml:2: upstreams.0.fallback: no other upstream 'bet'; did you mean 'beta'?"
    ]
    twice = "upstreams:\n  - {name: a, url: http://a}\n  - {name: a, url: http://b}\n"
    assert complaints(twice) == ["some.yaml:3: upstreams.1.name: 'a' is taken; choose another"]
    both = "upstream: {url: http://x}\nupstreams:\n  - {name: a, url: http://a}\n"
    assert complaints(both) == [
        "some.yaml:1: upstream.url: cannot be set together with upstreams; move it there"
    ]


def test_a_key_in_place_of_the_name_of_its_variable_is_not_repeated():
    (line,) = complaints("upstreams:\n  - {name: a, url: http://a, key_env: sk-secret}\n")
    assert "sk-secret" not in line


def test_every_key_of_an_upstream_is_documented():
    page = (ROOT / "docs" / "upstreams.md").read_text()
    assert [name for name in NamedUpstream.model_fields if f"`{name}`" not in page] == []
