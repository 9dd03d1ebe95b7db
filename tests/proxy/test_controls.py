from __future__ import annotations

import math

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from policies.decision import Controls
from proxy.controls import REMOVED, from_headers, from_litellm


def read(*headers: tuple[str, str]) -> Controls:
    return from_headers(CIMultiDictProxy(CIMultiDict(headers)))


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("Cache-Control", "no-cache", Controls(read=False)),
        ("Cache-Control", "No-Store", Controls(write=False)),
        ("cache-control", "max-age=60, only-if-cached", Controls(max_age=60, only_if_cached=True)),
        ("Cache-Control", "max-stale", Controls(max_stale=math.inf)),
        ("Cache-Control", "max-stale=30", Controls(max_stale=30)),
        ("Cache-Control", "stale-if-error=10", Controls(stale_if_error=10)),
        ("Cache-Control", "max-age=soon, stuff=1, , private", Controls()),
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


def test_litellm_body_object() -> None:
    cache = {"ttl": 60, "s-maxage": 5, "no-cache": True, "no-store": False, "namespace": "n"}
    assert from_litellm(Controls(), cache) == Controls(read=False, ttl=60, max_age=5, namespace="n")
    assert from_litellm(Controls(), "nonsense") == Controls()


def test_cache_control_goes_on_and_ours_do_not() -> None:
    assert "cache-control" not in REMOVED
    assert {"x-nearhit-category", "helicone-cache-enabled"} <= REMOVED
