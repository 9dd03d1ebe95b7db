from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from policies.decision import Controls
from proxy.controls import NAMES, Name, Permits, asked, removed


def read(*headers: tuple[str, str], cache: dict[str, Any] | None = None) -> Controls:
    return asked(CIMultiDictProxy(CIMultiDict(headers)), cache)


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("Cache-Control", "no-cache", Controls(read=False)),
        ("Cache-Control", "No-Store", Controls(write=False)),
        ("cache-control", "max-age=60, only-if-cached", Controls(max_age=60, only_if_cached=True)),
        ("Cache-Control", "max-stale", Controls(max_stale=math.inf)),
        ("Cache-Control", "max-stale=30", Controls(max_stale=30)),
        ("Cache-Control", "stale-if-error=10", Controls(stale_if_error=10)),
        ("Cache-Control", "max-stale=soon, stuff=1, , private", Controls()),
        ("Cache-Control", 'max-age="60"', Controls(max_age=60)),
        ("Cache-Control", "max-age=1.0", Controls(max_age=1)),
        ("Cache-Control", "max-age=-1", Controls(max_age=0)),
        ("Cache-Control", "max-age=soon", Controls(max_age=0)),
        ("Cache-Control", "max-age", Controls(max_age=0)),
        ("X-Nearhit-Category", "code", Controls(category="code")),
        ("X-Nearhit-Namespace", "blue", Controls(namespace="blue")),
        ("X-Nearhit-TTL", "2h", Controls(ttl=7200)),
        ("X-Nearhit-TTL", "90", Controls(ttl=90)),
        ("X-Nearhit-TTL", "-1", Controls()),
        ("X-Nearhit-Threshold", "0.97", Controls(threshold=0.97)),
        ("X-Nearhit-Threshold", "7", Controls()),
        ("X-Nearhit-Threshold", "nan", Controls()),
        ("X-Nearhit-Tags", "a, b,,a", Controls(tags=("a", "b"))),
        ("X-Nearhit-Debug", "1", Controls(debug=True)),
        ("X-Nearhit-Debug", "0", Controls()),
        ("X-Cache-Control", "no-store", Controls(write=False)),
        ("cf-aig-skip-cache", "true", Controls(read=False, write=False)),
        ("cf-aig-cache-ttl", "3600", Controls(ttl=3600)),
        ("x-portkey-cache-force-refresh", "true", Controls(read=False)),
        ("x-portkey-cache-namespace", "n", Controls(namespace="n")),
        ("Helicone-Cache-Enabled", "false", Controls(read=False, write=False)),
        ("Helicone-Cache-Enabled", "true", Controls()),
        ("x-bf-cache-ttl", "5m", Controls(ttl=300)),
        ("x-bf-cache-threshold", "0.9", Controls(threshold=0.9)),
        ("x-bf-cache-no-store", "true", Controls(write=False)),
    ],
)
def test_headers(header: str, value: str, expected: Controls) -> None:
    assert read((header, value)) == expected


def test_several_cache_control_headers_add_up() -> None:
    assert read(("Cache-Control", "no-cache"), ("Cache-Control", "no-store")) == Controls(
        read=False, write=False
    )


def test_the_tighter_threshold_wins() -> None:
    assert read(("x-bf-cache-threshold", "0.95"), ("X-Nearhit-Threshold", "0.9")).threshold == 0.95


def test_our_own_headers_win_over_aliases() -> None:
    assert read(("X-Nearhit-TTL", "1"), ("cf-aig-cache-ttl", "2")).ttl == 1


def test_an_empty_namespace_keeps_the_one_of_another_gateway() -> None:
    assert read(("x-bf-cache-key", "a"), ("X-Nearhit-Namespace", " ")).namespace == "a"


def test_litellm_body_object() -> None:
    cache = {"ttl": 60, "s-maxage": 5, "no-cache": True, "no-store": False, "namespace": "n"}
    assert read(cache=cache) == Controls(read=False, ttl=60, max_age=5, namespace="n")


def test_litellms_seconds_may_be_written_as_fractions() -> None:
    assert read(cache={"ttl": 100.0, "s-maxage": 1.5}) == Controls(ttl=100, max_age=1.5)
    assert read(cache={"s-maxage": -1, "ttl": -1}) == Controls(max_age=0)


@pytest.mark.parametrize(
    ("name", "ends_here"),
    [
        ("cache-control", False),
        ("x-nearhits", False),
        ("x-nearhit-category", True),
        ("x-nearhit-categroy", True),  # a typing error is still a word to us
        ("helicone-cache-enabled", True),
    ],
)
def test_cache_control_goes_on_and_ours_do_not(name: str, ends_here: bool) -> None:
    assert removed(name) is ends_here


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("cf-aig-cache-key", "user-7", Controls(namespace="user-7")),
        ("Helicone-Cache-Seed", "user-7", Controls(namespace="user-7")),
        ("x-bf-cache-key", "session-7", Controls(namespace="session-7")),
        ("x-bf-cache-type", "direct", Controls(threshold=1.0)),
        ("x-bf-cache-type", "semantic", Controls()),
        ("x-portkey-cache", "simple", Controls(threshold=1.0)),
        ("x-portkey-cache", "semantic", Controls()),
    ],
)
def test_what_keeps_answers_apart_elsewhere_keeps_them_apart_here(
    header: str, value: str, expected: Controls
) -> None:
    assert read((header, value)) == expected


def test_several_keys_of_other_gateways_are_one_namespace_of_theirs() -> None:
    two = (("x-portkey-cache-namespace", "app"), ("cf-aig-cache-key", "user-1"))
    assert read(*two).namespace == "user-1\napp"
    assert read(*two, ("Helicone-Cache-Seed", " ")).namespace == "user-1\napp"
    assert read(*two, ("X-Nearhit-Namespace", "ours")).namespace == "ours"
    assert read(("cf-aig-cache-key", "a,b"), ("x-bf-cache-key", "c")) != read(
        ("cf-aig-cache-key", "a"), ("x-bf-cache-key", "b,c")
    )


ASKED_FOR_ALL = Controls(
    read=False, write=False, only_if_cached=True, max_age=1, max_stale=2, stale_if_error=3, ttl=4,
    threshold=0.99, category="code", namespace="n", tags=("a",), debug=True,
)  # fmt: skip


def test_everything_may_be_asked_unless_it_is_said_otherwise() -> None:
    assert Permits().of(ASKED_FOR_ALL, "t") == ASKED_FOR_ALL
    assert Permits(NAMES).of(ASKED_FOR_ALL, "t") == ASKED_FOR_ALL
    assert Permits(()).of(ASKED_FOR_ALL, "t") == Controls()


@given(st.sets(st.sampled_from(NAMES)))
def test_what_may_not_be_asked_is_as_if_it_were_not(allowed: set[Name]) -> None:
    left = asdict(Permits(tuple(allowed)).of(ASKED_FOR_ALL, "t"))
    changed = {member for member, value in asdict(Controls()).items() if left[member] != value}
    words = {"no-cache": "read", "no-store": "write"}
    assert changed == {words.get(name) or name.replace("-", "_") for name in allowed}


def test_who_is_trusted_may_ask_for_everything() -> None:
    permits = Permits((), ("12345678", "abcdef0123"))
    assert permits.of(ASKED_FOR_ALL, "abcdef0123456") == ASKED_FOR_ALL
    assert permits.of(ASKED_FOR_ALL, "1234567") == Controls()
    assert permits.of(ASKED_FOR_ALL, "") == Controls()
    assert Permits((), ()).of(ASKED_FOR_ALL, "abcdef0123456") == Controls()
