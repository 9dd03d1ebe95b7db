from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.sse import Splitter, event, payload

ends = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])
lines = st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line and b"\r" not in line)
streams = st.lists(st.tuples(lines, ends), max_size=8).map(lambda parts: b"".join(a + b for a, b in parts))


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(stream) + 1) for place in at})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@given(streams | st.binary(max_size=60), st.lists(st.integers(0, 1000), max_size=10))
def test_what_goes_in_comes_out_however_it_is_cut(stream: bytes, at: list[int]) -> None:
    splitter = Splitter()
    events = [each for chunk in cut(stream, at) for each in splitter.feed(chunk)]
    assert b"".join(events) + splitter.rest() == stream


@given(streams, st.lists(st.integers(0, 1000), max_size=10))
def test_events_are_the_same_however_they_are_cut(stream: bytes, at: list[int]) -> None:
    whole, parts = Splitter(), Splitter()
    expected = [*whole.feed(stream), whole.rest()]
    events = [each for chunk in cut(stream, at) for each in parts.feed(chunk)]
    assert [payload(each) for each in [*events, parts.rest()]] == [payload(each) for each in expected]


def test_payload_joins_data_lines_and_ignores_the_rest() -> None:
    assert payload(b": keep-alive\n\n") is None
    assert payload(b"event: x\nid: 1\ndata: a\ndata:b\r\ndata\n\n") == b"a\nb\n"
    assert payload(b"data:  b\n\n") == b" b"
    assert payload(event(b"{}", b"ping")) == b"{}"
