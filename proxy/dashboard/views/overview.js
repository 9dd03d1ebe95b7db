// How the cache does, now and over time. Hit rate and wrong rate stand together, always.

import { get } from "/dashboard/api.js";
import { lines, stacked } from "/dashboard/charts.js";
import { card, h, tile } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";
import { looked, series, sumOver } from "/dashboard/history.js";

export const title = "Overview";

const WINDOWS = { "15 minutes": 900, hour: 3600, day: 86400, week: 7 * 86400, month: 30 * 86400 };
const TIERS = [
  { name: "exact", colour: "exact" }, { name: "semantic", colour: "semantic" },
  { name: "inflight", colour: "inflight" }, { name: "stale", colour: "stale" },
];

export async function show(room, tools) {
  const chosen = h("select", {}, Object.entries(WINDOWS).map(([name, value]) =>
    h("option", { value, selected: value === 3600 }, `last ${name}`)));
  const tiles = h("div", { class: "tiles" });
  const hits = card("Answered from memory");
  const traffic = card("Calls per second");
  const load = card("Pressure of the upstream");
  const saved = card("Upstream time saved, seconds per minute");
  room.append(h("div", { class: "bar" }, h("label", {}, "Time", chosen)), tiles, hits,
    h("div", { class: "two" }, traffic, load, saved));

  const seconds = () => Number(chosen.value);
  const share = (value) => f.percent(value, 0);
  const draw = {
    hits: stacked(hits, tools, "Share of calls answered from memory, by tier", seconds, TIERS, share, [0, 1]),
    traffic: lines(traffic, tools, "Calls per second", seconds, [{ name: "calls", colour: "accent", fill: true }], f.rate),
    load: lines(load, tools, "Pressure", seconds, [{ name: "pressure", colour: "bad", fill: true }], (v) => v.toFixed(2), [0, 1]),
    saved: lines(saved, tools, "Seconds saved", seconds, [{ name: "saved", colour: "good", fill: true }], f.rate),
  };

  const refresh = async () => {
    const [stats, past] = await Promise.all([get("stats"), get("stats/history", { window: `${chosen.value}s` })]);
    const points = series(past);
    const part = (name) => points.map((p) => (looked(p) ? p[name] / looked(p) : null));
    const times = points.map((p) => p.start);
    draw.hits([times, ...TIERS.map(({ name }) => part(name))]);
    draw.traffic([times, points.map((p) => p.requests / past.step)]);
    draw.load([times, points.map((p) => (p.requests ? p.pressure : null))]);
    draw.saved([times, points.map((p) => (p.saved_ms / 1000 / past.step) * 60)]);
    tiles.replaceChildren(...figures(stats, sumOver(points), past));
  };
  chosen.addEventListener("change", refresh);
  await tools.every(5, refresh);
}

function figures(stats, sum, past) {
  const from = sum.exact + sum.semantic + sum.inflight + sum.stale;
  const verdicts = sum.right + sum.wrong;
  const asked = looked(sum);
  return [
    tile("Hit rate", f.percent(asked ? from / asked : null),
      `${f.count(sum.exact)} exact, ${f.count(sum.semantic)} alike, ${f.count(sum.inflight)} in flight, ${f.count(sum.stale)} stale`),
    tile("Wrong hits", f.percent(verdicts ? sum.wrong / verdicts : null),
      verdicts ? `of ${f.count(verdicts)} hits that were checked` : "none was checked: audit or feedback tells"),
    tile("Calls", f.count(sum.requests), `${f.count(stats.in_flight)} being answered`),
    tile("Money saved", f.money(sum.cost_saved, past.currency), `${f.count(sum.tokens_saved)} tokens`),
    tile("Time saved", f.duration(sum.saved_ms / 1000), "of the upstream's"),
    tile("A hit takes", `≤ ${within(sum.hit_ms, past.latency_edges_ms, 0.5)}`,
      `95 % within ${within(sum.hit_ms, past.latency_edges_ms, 0.95)}`),
    tile("A miss takes", `≤ ${within(sum.other_ms, past.latency_edges_ms, 0.5)}`,
      `95 % within ${within(sum.other_ms, past.latency_edges_ms, 0.95)}`),
    tile("Entries", f.count(stats.entries),
      `${f.percent(stats.entries / stats.capacity, 0)} of ${f.count(stats.capacity)}, ${f.bytes(stats.bytes)}`),
  ];
}

// The upper bound of the bin in which the quantile lies.
function within(counts, edges, share) {
  const all = counts.reduce((sum, n) => sum + n, 0);
  if (!all) return "–";
  let seen = 0;
  const bin = counts.findIndex((n) => (seen += n) >= share * all);
  return bin < edges.length ? f.milliseconds(edges[bin]) : `more than ${f.milliseconds(edges.at(-1))}`;
}
