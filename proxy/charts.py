"""Line charts as SVG that needs nothing from elsewhere and follows the reader's light or dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 440, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 28, 40
_TICKS = 5
_LEGEND_STEP = 15

_STYLE = """
:root{color-scheme:light dark}
svg{--ink:#1f2328;--faint:#8c959f;--paper:#fff;--c0:#0969da;--c1:#bc4c00;--c2:#1a7f37;--c3:#8250df;--c4:#cf222e}
@media (prefers-color-scheme:dark){
svg{--ink:#e6edf3;--faint:#6e7681;--paper:#0d1117;--c0:#58a6ff;--c1:#f0883e;--c2:#3fb950;--c3:#bc8cff;--c4:#ff7b72}}
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}
""".strip()
_PAGE_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;background:Canvas;
color:CanvasText}
svg{max-width:100%;height:auto}
""".strip()
_COLOURS = 5

Where = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    """In the legend; "" keeps it out."""
    points: Sequence[Where]


@dataclass(frozen=True, slots=True)
class Band:
    points: Sequence[tuple[float, float, float]]
    """(x, low, high)"""


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    x_title: str
    x: Where
    """From, to."""
    y: Where
    lines: Sequence[Line]
    bands: Sequence[Band] = ()
    level: float | None = None
    """A dashed line across."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Dashed lines upright, by name."""

    def svg(self) -> str:
        """One element, for a file of its own as well as for a page."""
        inside = "".join((*self._frame(), *self._bands(), *self._lines(), *self._marks()))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img"><title>{escape(self.title)}</title><style>{_STYLE}</style>'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--paper)"/>{inside}</svg>'
        )

    def _frame(self) -> Iterator[str]:
        yield _text(_LEFT, 16, self.title, "start", weight=600)
        yield _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, self.x_title)
        for step in range(_TICKS + 1):
            share = step / _TICKS
            x, y = (low + (high - low) * share for low, high in (self.x, self.y))
            left, top = self._at((x, y))
            yield _line(_LEFT, top, WIDTH - _RIGHT, top, "var(--faint)", opacity=0.3)
            yield _text(left, HEIGHT - _BOTTOM + 16, f"{x:.3g}")
            yield _text(_LEFT - 6, top + 4, f"{y:.3g}", "end")

    def _bands(self) -> Iterator[str]:
        for band in self.bands:
            there = [self._at((x, high)) for x, _, high in band.points]
            back = [self._at((x, low)) for x, low, _ in reversed(band.points)]
            yield f'<polygon points="{_points([*there, *back])}" fill="var(--c0)" opacity="0.2"/>'

    def _lines(self) -> Iterator[str]:
        for number, line in enumerate(self.lines):
            colour = f"var(--c{number % _COLOURS})"
            points = _points([self._at(point) for point in line.points])
            yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            if line.name:
                top = _TOP + 8 + _LEGEND_STEP * number
                yield _line(_LEFT + 8, top, _LEFT + 26, top, colour, width=2)
                yield _text(_LEFT + 31, top + 4, line.name, "start")

    def _marks(self) -> Iterator[str]:
        if self.level is not None:
            top = self._at((self.x[0], self.level))[1]
            yield _line(_LEFT, top, WIDTH - _RIGHT, top, "var(--c4)", dashes="4 3")
        for number, (name, x) in enumerate(self.marks.items()):
            left = self._at((x, self.y[0]))[0]
            yield _line(left, _TOP, left, HEIGHT - _BOTTOM, "var(--ink)", dashes="2 3")
            yield _text(left - 3, _TOP + 10 + 12 * number, name, "end")

    def _at(self, point: Where) -> Where:
        """Pixels; what lies outside is put on the edge."""
        across, up = (
            min(1.0, max(0.0, (value - low) / (high - low)))
            for value, (low, high) in zip(point, (self.x, self.y), strict=True)
        )
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )


def page(title: str, body: str) -> str:
    """`body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_PAGE_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _points(points: Sequence[Where]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(x: float, y: float, text: str, anchor: str = "middle", weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, opacity: float = 1,
    dashes: str = "none",
) -> str:  # fmt: skip
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" opacity="{opacity}" stroke-dasharray="{dashes}"/>'
    )
