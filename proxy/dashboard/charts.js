// Lines and stacked areas over time, and bars, with uPlot; colours from the style sheet.

/* global uPlot */

import { moment } from "/dashboard/format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Hours and minutes within two days, else the day.
function clock(plot, splits) {
  const step = splits[1] - splits[0];
  const day = { day: "numeric", month: "short" };
  const time = { hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) };
  const wanted = plot.scales.x.max - plot.scales.x.min > 2 * 86400 ? day : time;
  return splits.map((at) => new Date(at * 1000).toLocaleString("en-GB", wanted));
}

// Of a logarithmic axis only 1, 10, 100 and so on.
const round = (plot, splits, axis) => (plot.scales[plot.axes[axis].scale].distr !== 3 ? splits
  : splits.map((value) => (Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6 ? value : null)));

function axes(format, below = clock) {
  const line = { stroke: colour("line"), width: 1, filter: round };
  const plain = { stroke: colour("dim"), grid: line, ticks: line, filter: round };
  return [{ ...plain, space: 80, values: below }, { ...plain, size: 68, values: (_, values) => values.map((value) => (value == null ? "" : format(value))) }];
}

function drawn(room, tools, title, build) {
  const place = document.createElement("div");
  place.className = "chart";
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", title);
  room.append(place);
  let plot;
  const size = () => ({ width: Math.max(200, place.clientWidth), height: 205 });
  const watch = new ResizeObserver(() => plot?.setSize(size()));
  watch.observe(place);
  tools.onLeave(() => { watch.disconnect(); plot?.destroy(); });
  return (data, [from, to] = []) => {
    if (from) place.setAttribute("aria-label", `${title}, from ${moment(from)} to ${moment(to)}`);
    if (plot) plot.setData(data);
    else plot = new uPlot({ ...build(), ...size() }, data, place);
  };
}

// All of the window, however little of it has data.
const across = (range) => ({ time: true, range });
const upwards = (_, low, high) => [0, high > 0 ? high * 1.1 : 1];
const dots = { show: (plot) => plot.data[0].length < 3, size: 5 };

// series: [{name, colour, fill}], one line each. Gives a function that takes [times, values, ...] and [from, to].
export function lines(room, tools, title, series, format, scale = { range: upwards }) {
  let span = [];
  const put = drawn(room, tools, title, () => ({
    scales: { x: across(() => span), y: scale },
    axes: axes(format),
    series: [{}, ...series.map((each) => ({
      label: each.name, stroke: colour(each.colour), width: 1.5, fill: each.fill ? `${colour(each.colour)}33` : undefined,
      dash: each.dash, points: dots, value: (_, value) => (value == null ? "–" : format(value)), spanGaps: false,
    }))],
  }));
  return (data, its) => { span = its; put(data, its); };
}

// For figures that differ by orders of magnitude: whole decades around them.
export const decades = {
  distr: 3,
  range: (_, low, high) => [10 ** Math.floor(Math.log10(low || 1)), 10 ** Math.ceil(Math.log10(high || 1000) + 1e-9)],
};

// Parts of a whole upon each other: takes [times, part, ...] and [from, to], shows their sums and says the parts.
export function stacked(room, tools, title, series, format, scale = { range: upwards }) {
  let parts = [];
  let span = [];
  const put = drawn(room, tools, title, () => ({
    scales: { x: across(() => span), y: scale },
    axes: axes(format),
    series: [{}, ...series.map((each, i) => ({
      label: each.name, stroke: colour(each.colour), width: 1, points: dots,
      fill: i === 0 ? `${colour(each.colour)}88` : undefined,
      value: (_, value, __, at) => (at == null || parts[i]?.[at] == null ? "–" : format(parts[i][at])),
    }))],
    bands: series.map((each, i) => ({ series: [i + 1, i], fill: `${colour(each.colour)}88` })).slice(1),
  }));
  return ([times, ...given], its) => {
    [parts, span] = [given, its];
    const sums = given.map((_, i) => times.map((_, at) =>
      given[0][at] == null ? null : given.slice(0, i + 1).reduce((sum, part) => sum + (part[at] ?? 0), 0)));
    put([times, ...sums], its);
  };
}

// Counts by similarity, with a line at the threshold. groups: [{name, colour, values}].
export function histogram(room, tools, title, groups, threshold, from = 0.5) {
  const bins = 50;
  const step = (1 - from) / bins;
  const xs = Array.from({ length: bins }, (_, i) => from + (i + 0.5) * step);
  const counts = groups.map(({ values }) => {
    const row = new Array(bins).fill(0);
    for (const value of values) row[Math.min(bins - 1, Math.max(0, Math.floor((value - from) / step)))] += 1;
    return row;
  });
  const mark = (plot) => {
    const x = plot.valToPos(threshold(), "x", true);
    plot.ctx.save();
    plot.ctx.strokeStyle = colour("bad");
    plot.ctx.setLineDash([6, 4]);
    plot.ctx.lineWidth = 2;
    plot.ctx.beginPath();
    plot.ctx.moveTo(x, plot.bbox.top);
    plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    plot.ctx.stroke();
    plot.ctx.restore();
  };
  let shown;
  const put = drawn(room, tools, title, () => ({
    scales: { x: { time: false, range: [from, 1] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: axes((value) => String(value), (_, splits) => splits.map((value) => value.toFixed(2))),
    series: [{ label: "similarity", value: (_, value) => value?.toFixed(3) ?? "–" }, ...groups.map((each) => ({
      label: each.name, stroke: colour(each.colour), fill: `${colour(each.colour)}66`,
      paths: uPlot.paths.bars({ size: [0.9] }), points: { show: false },
    }))],
    hooks: { draw: [(plot) => { shown = plot; mark(plot); }] },
  }));
  put([xs, ...counts]);
  return () => shown?.redraw(false);
}
