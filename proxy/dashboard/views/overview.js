// How the cache does, now and over time. Hit rate and wrong rate stand together, always.

import { get } from "/dashboard/api.js";
import { decades, lines, stacked } from "/dashboard/charts.js";
import { card, h, renew, tile } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";
import { looked, quantile, series, sumOver } from "/dashboard/history.js";

export const title = "Overview";

const WINDOWS = { "15 minutes": 900, hour: 3600, day: 86400, week: 7 * 86400, month: 30 * 86400 };
const TIERS = [
  { name: "exact", colour: "exact" }, { name: "semantic", colour: "semantic" },
  { name: "inflight", colour: "inflight" }, { name: "stale", colour: "stale" },
];

const TIMES = [
  { name: "hits, median", colour: "semantic", of: "hit_ms", share: 0.5 },
  { name: "hits, 95 %", colour: "semantic", of: "hit_ms", share: 0.95, dash: [4, 4] },
  { name: "others, median", colour: "inflight", of: "other_ms", share: 0.5 },
  { name: "others, 95 %", colour: "inflight", of: "other_ms", share: 0.95, dash: [4, 4] },
];
const PART = { range: [0, 1] };

export async function show(room, tools) {
  const chosen = h("select", {}, Object.entries(WINDOWS).map(([name, value]) =>
    h("option", { value, selected: value === 3600 }, `last ${name}`)));
  const tiles = h("div", { class: "tiles" }, TILES.map((name) => tile(name, "–")));
  const hits = card("Answered from memory");
  const times = card("Time to answer");
  const traffic = card("Calls per second");
  const load = card("Pressure of the upstream");
  const saved = card("Upstream time saved, seconds per minute");
  room.append(h("div", { class: "bar" }, h("label", {}, "Time", chosen)), tiles, hits,
    h("div", { class: "two" }, times, traffic, load, saved));

  const share = (value) => f.percent(value, 0);
  const draw = {
    hits: stacked(hits, tools, "Share of calls answered from memory, by tier", TIERS, share, PART),
    times: lines(times, tools, "Time to answer", TIMES, f.milliseconds, decades),
    traffic: lines(traffic, tools, "Calls per second", [{ name: "calls", colour: "accent", fill: true }], f.rate),
    load: lines(load, tools, "Pressure", [{ name: "pressure", colour: "bad", fill: true }], (v) => v.toFixed(2), PART),
    saved: lines(saved, tools, "Seconds saved", [{ name: "saved", colour: "good", fill: true }], f.rate),
  };

  const refresh = async () => {
    const window = Number(chosen.value);
    const [stats, past] = await Promise.all([get("stats"), get("stats/history", { window: `${window}s`, total: true })]);
    if (window !== Number(chosen.value)) return; // another one was chosen meanwhile
    const points = series(past);
    const part = (name) => points.map((p) => (looked(p) ? p[name] / looked(p) : null));
    const starts = points.map((p) => p.start);
    const span = [past.at - window, past.at];
    draw.hits([starts, ...TIERS.map(({ name }) => part(name))], span);
    draw.times([starts, ...TIMES.map((each) => points.map((p) => quantile(p[each.of], past.latency_edges_ms, each.share)))], span);
    draw.traffic([starts, points.map((p) => p.requests / past.step)], span);
    draw.load([starts, points.map((p) => (p.requests ? p.pressure : null))], span);
    draw.saved([starts, points.map((p) => (p.saved_ms / 1000 / past.step) * 60)], span);
    renew(tiles, ...figures(stats, sumOver(points), past));
  };
  chosen.addEventListener("change", refresh);
  await tools.every(5, refresh);
}

const TILES = ["Hit rate", "Wrong hits", "Calls", "Money saved", "Time saved", "A hit takes", "Others take", "Entries"];

function figures(stats, sum, past) {
  const from = sum.exact + sum.semantic + sum.inflight + sum.stale;
  const verdicts = sum.right + sum.wrong;
  const asked = looked(sum);
  const took = (counts) => [`≈ ${f.milliseconds(quantile(counts, past.latency_edges_ms, 0.5))}`,
    `95 % within ${f.milliseconds(quantile(counts, past.latency_edges_ms, 0.95))}`];
  const beside = [
    [f.percent(asked ? from / asked : null),
      `${f.count(sum.exact)} exact, ${f.count(sum.semantic)} alike, ${f.count(sum.inflight)} in flight, ${f.count(sum.stale)} stale`],
    [f.percent(verdicts ? sum.wrong / verdicts : null),
      verdicts ? `of ${f.count(verdicts)} hits that were checked` : "none was checked: audit or feedback tells"],
    [f.count(sum.requests), `${f.count(stats.in_flight)} being answered`],
    [f.money(sum.cost_saved, past.currency), `${f.count(sum.tokens_saved)} tokens`],
    [f.duration(sum.saved_ms / 1000), "of the upstream's"],
    took(sum.hit_ms), took(sum.other_ms),
    [f.count(stats.entries), `${f.percent(stats.entries / stats.capacity, 0)} of ${f.count(stats.capacity)}, ${f.bytes(stats.bytes)}`],
  ];
  return beside.map(([value, more], i) => tile(TILES[i], value, more));
}
