"""Reads settings from a YAML file, the environment (`NEARHIT_LISTEN__PORT`) and command-line flags; later
ones win. Errors name the place of the value and never show a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.errors import ConfigError, Problem
from policies.located import Lines, check, nearest, read
from proxy.settings import NamedUpstream, Settings, mask, misfits, settings_fields, variable
from proxy.settings_values import PREFIX

DEFAULT_FILE = Path("nearhit.yaml")
OTHER_VARIABLES = ("NEARHIT_CONFIG", "NEARHIT_DATA")
"""Variables with our prefix that are not settings: the settings file, and the labelled data of the tests."""

_KUBERNETES = re.compile(r"NEARHIT_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""Variables that a Kubernetes Service called nearhit adds to every pod of its namespace."""


def load_settings(config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Settings:
    """The settings in force. Raises `ConfigError` with one line per mistake.

    `config`: the file, which must exist. None: $NEARHIT_CONFIG, else `nearhit.yaml` in the working directory
    if there is one. `overrides`: flags by dotted name (`{"listen.port": 9000}`); None: the flag was not
    given.
    """
    data, lines = _file(config, environ)
    _refuse_keys(data, lines)
    if isinstance(data, dict):
        for name, value, place in (*_from_environment(environ), *_from_flags(overrides)):
            _put(data, lines, name, value, place)
    try:
        settings = check(Settings, data, lines)
    except ConfigError as error:
        raise ConfigError(_without_secrets(error, data)) from None
    if problems := [lines.problem(keys, message) for keys, message in misfits(settings)]:
        raise ConfigError(problems)
    return settings


def upstream_keys(upstreams: Sequence[NamedUpstream], environ: Mapping[str, str]) -> dict[str, str]:
    """Our own keys, by upstream. Raises `ConfigError` if the environment lacks one of them."""
    named = {each.name: environ.get(each.key_env, "").strip() for each in upstreams if each.key_env}
    advice = "the environment has no such variable, or it is empty; set it to this upstream's key"
    if missing := [Problem(f"upstreams, {name}, key_env", advice) for name, key in named.items() if not key]:
        raise ConfigError(missing)
    return named


def _refuse_keys(data: Any, lines: Lines) -> None:
    """Refuses `documents.keys` in the file, where they might lie next to the data they protect."""
    documents = data.get("documents") if isinstance(data, dict) else None
    if isinstance(documents, dict) and "keys" in documents:
        advice = f"documents.keys: is not read from a file; set {variable(('documents', 'keys'))} instead"
        raise ConfigError([lines.problem(("documents", "keys"), advice)])


def _file(config: Path | None, environ: Mapping[str, str]) -> tuple[Any, Lines]:
    named = config or (Path(environ["NEARHIT_CONFIG"]) if environ.get("NEARHIT_CONFIG") else None)
    if named is None and not DEFAULT_FILE.exists():
        return {}, Lines("settings")
    return read(named or DEFAULT_FILE)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(name, value, variable) of every setting in the environment. Empty variables count as unset."""
    known = {variable(name): name for name, _ in settings_fields()}
    ours = [name for name in sorted(environ) if name.startswith(PREFIX) and environ[name]]
    unknown = [name for name in ours if name not in known and not _is_no_setting(name, environ[name])]
    if unknown:
        advice = (f"unknown setting; {nearest(name, sorted(known))}" for name in unknown)
        raise ConfigError(map(Problem, unknown, advice))
    yield from ((known[name], environ[name], name) for name in ours if name in known)


def _is_no_setting(name: str, value: str) -> bool:
    of_kubernetes = _KUBERNETES.fullmatch(name) or value.startswith(("tcp://", "udp://", "sctp://"))
    return name in OTHER_VARIABLES or bool(of_kubernetes)


def _from_flags(overrides: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    for name, value in overrides.items():
        if value is not None:
            yield tuple(name.split(".")), value, f"--{name.replace('.', '-').replace('_', '-')}"


def _put(data: dict[Any, Any], lines: Lines, name: tuple[str, ...], value: Any, place: str) -> None:
    """Sets one value. A section that is not a mapping is left alone, for the validation to report."""
    *outer, last = name
    into: Any = data
    for section in outer:
        if into.get(section) is None:
            into[section] = {}
            lines.places[(section,)] = place
        into = into[section]
    if isinstance(into, dict):
        into[last] = value
        lines.places[name] = place


def _without_secrets(error: ConfigError, data: Any) -> Iterator[Problem]:
    """The problems, with secrets masked: their messages quote the value that is wrong."""
    hidden = [(f"not {value!r:.60}", f"not {shown!r:.60}") for value, shown in _secrets(data)]
    for problem in error.problems:
        message = problem.message
        for value, shown in hidden:
            message = message.replace(value, shown)
        yield Problem(problem.place, message)


def _secrets(data: Any, name: str = "") -> Iterator[tuple[Any, str]]:
    """(value, masked value) of everything that must not be shown as it is."""
    if name in ("token", "key", "keys", "key_env"):
        yield data, "***"
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _secrets(value, str(key))
    elif isinstance(data, list):
        for each in data:
            yield from _secrets(each)
    elif isinstance(data, str) and mask(data) != data:
        yield data, mask(data)
