// Policies side by side with what they achieve, and one of them in detail.

import { get, send } from "/dashboard/api.js";
import { histogram, lines } from "/dashboard/charts.js";
import { card, gauge, h, pairs, renew, table } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";
import { looked, series } from "/dashboard/history.js";

export const title = "Categories";

export const show = (room, tools, [name]) => (name ? one(room, tools, name) : all(room, tools));

async function all(room, tools) {
  const place = h("div", {});
  room.append(place);
  const right = { class: "n" };
  const columns = [["category"], ["calls", right], ["hit rate", right], ["break-even", right], ["wrong hits", { class: "whole" }],
    ["threshold", right], ["in force", right], ["ttl", right], ["in force", right], ["saved per hour", right], ["mode"]];
  await tools.every(5, async () => {
    const [{ categories }, stats, economics] = await Promise.all([get("categories"), get("stats"), get("economics")]);
    const policies = table("Policy and result, by category", columns, categories.map((each) => {
      const money = economics.categories[each.name] ?? {};
      const moved = Math.abs(each.in_force.threshold - each.threshold) > 1e-9;
      return [
        h("a", { href: `#/categories/${each.name}` }, each.name), f.count(each.tally.requests),
        f.percent(each.tally.requests ? each.tally.hit_rate : null), money.break_even > 1 ? "never" : f.percent(money.break_even),
        f.interval(each.audit), f.cosine(each.threshold),
        moved ? h("strong", {}, f.cosine(each.in_force.threshold)) : f.cosine(each.in_force.threshold),
        f.duration(each.ttl), f.duration(each.in_force.ttl), f.money(money.cost_per_hour, economics.prices.currency), money.mode ?? each.mode,
      ];
    }));
    renew(place, h("div", { class: "card" }, policies), h("div", { class: "card" }, shares(categories, stats)));
  });
}

// What each may keep for certain, how much of that it uses, and what it has borrowed of the others' idle shares.
function shares(categories, stats) {
  const right = { class: "n" };
  const rows = categories.filter(({ usage }) => usage).map(({ name, usage }) => {
    const used = usage.guaranteed ? Math.min(1, usage.entries / usage.guaranteed) : null;
    return [h("a", { href: `#/categories/${name}` }, name), f.count(usage.entries), f.count(usage.guaranteed),
      used === null ? null : gauge(`guaranteed share of ${name} in use`, used, {}), f.percent(used, 0),
      usage.borrowed ? f.count(usage.borrowed) : "–", f.bytes(usage.bytes)];
  });
  return table(`Memory: ${f.count(stats.entries)} of ${f.count(stats.capacity)} entries, by category`,
    [["category"], ["entries", right], ["guaranteed", right], [""], ["of it in use", right], ["borrowed", right], ["size", right]], rows);
}

async function one(room, tools, name) {
  const [category, economics, past, recent] = await Promise.all([
    get(`categories/${encodeURIComponent(name)}`), get("economics"), get("stats/history", { window: "24h", category: name, total: true }),
    get("recent", { limit: 1000 })]);
  const calls = recent.calls.filter((call) => call.category === name && call.similarity !== null && call.tier !== "exact");
  room.append(h("p", { class: "note" }, category.description));
  await preview(room, tools, category, calls);

  const rate = card("Hit rate over the last day");
  const policy = card("Policy", pairs([
    ["threshold", `${f.cosine(category.threshold)}, in force ${f.cosine(category.in_force.threshold)}`],
    ["ttl", `${f.duration(category.ttl)}, in force ${f.duration(category.in_force.ttl)}`],
    ["stale", `while revalidating ${f.duration(category.stale.while_revalidate)}, on errors ${f.duration(category.stale.if_error)}`],
    ["scope", category.scope], ["mode", category.mode], ["guards", category.guards.join(", ") || "none"],
    ["guaranteed share", f.percent(category.quota, 0)], ["priority", String(category.priority)],
    ["examples", f.count(category.example_count)], ["wrong hits", f.interval(category.audit)],
    ["target", f.percent(category.target_wrong_rate)],
  ]));
  const known = Object.entries(economics.categories[name] ?? {})
    .filter(([, value]) => value !== null && value !== "" && typeof value !== "object");
  room.append(rate, h("div", { class: "two" }, policy, card("Economy", pairs(known.map(([key, value]) =>
    [key.replaceAll("_", " "), typeof value === "number" ? value.toPrecision(4).replace(/\.?0+$/, "") : String(value)])))));
  const points = series(past);
  lines(rate, tools, "Hit rate", [{ name: "hit rate", colour: "accent", fill: true }], (v) => f.percent(v, 0), { range: [0, 1] })([
    points.map((p) => p.start),
    points.map((p) => (looked(p) ? (p.exact + p.semantic + p.inflight + p.stale) / looked(p) : null))], [past.at - 86400, past.at]);
  await editor(room, name);
}

// The file: checked by the same code that loads it, and written where it is one of the user's own.
async function editor(room, name) {
  const path = `categories/${encodeURIComponent(name)}`;
  const { text, writable } = await get(`${path}/text`);
  const area = h("textarea", { rows: "18", spellcheck: "false", class: "code" });
  area.value = text;
  const told = h("div", { "aria-live": "polite" });
  const lines = ({ problems, preview }) => (problems.length
    ? h("ul", {}, problems.map(({ place, message }) => h("li", { class: "error" }, `${place}: ${message}`)))
    : h("p", { class: "good" }, `Nothing is wrong with it. Of the last ${f.count(preview.calls)} calls that were not exact `
      + `repeats at most ${f.count(preview.hits_then)} would have been hits, with what is in force ${f.count(preview.hits_now)}.`));
  const attempt = (work) => async () => {
    try {
      told.replaceChildren(await work());
    } catch (error) {
      told.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
    }
  };
  const check = attempt(async () => lines(await send("POST", `${path}/check`, { text: area.value })));
  const save = attempt(async () => {
    await send("PUT", path, { text: area.value });
    return h("p", { class: "good" }, "Saved, and in force.");
  });
  room.append(card("File", h("label", {}, `${name}.yaml`, area),
    writable ? null : h("p", { class: "note" }, "A packaged category: copy it into a folder of your own and name that in categories."),
    h("div", { class: "bar" }, h("button", { onclick: check }, "Check"),
      h("button", { class: "main", onclick: save, disabled: !writable }, "Save")), told));
}

// What another threshold would have done to the calls that are remembered.
async function preview(room, tools, category, calls) {
  const asked = h("input", { type: "range", min: "0.5", max: "1", step: "0.005", value: String(category.in_force.threshold) });
  const said = h("p", { role: "status" });
  const hit = (call, threshold) => call.similarity >= threshold && (!call.reason || call.reason === "threshold");
  const place = card("Similarity of the nearest entry",
    h("p", { class: "note" }, `${f.count(calls.length)} calls that were not exact repeats, among the last 1,000`),
    h("label", {}, "Try a threshold", asked), said);
  room.append(place);
  const served = calls.filter((call) => call.outcome === "HIT");
  const others = calls.filter((call) => call.outcome !== "HIT");
  const redraw = histogram(place, tools, "Similarities", [
    { name: "misses", colour: "miss", values: others.map((call) => call.similarity) },
    { name: "hits", colour: "semantic", values: served.map((call) => call.similarity) },
  ], () => Number(asked.value));
  const tell = () => {
    const threshold = Number(asked.value);
    const [now, then] = [category.in_force.threshold, threshold].map((t) => calls.filter((call) => hit(call, t)).length);
    said.textContent = `At ${f.cosine(threshold)} you would have had ${f.count(then)} hits of these instead of ${f.count(now)}. `
      + "How many of them would have been wrong, nearhit tune tells from labelled pairs or audits.";
    redraw();
  };
  asked.addEventListener("input", tell);
  tell();
}
