// What looking costs and brings, by category.

import { get } from "/dashboard/api.js";
import { h, renew, table } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Economics";

export async function show(room, tools) {
  const place = h("div", { class: "card" });
  room.append(h("p", { class: "note" }, "Looking for something alike costs every call that looks, and pays from the break-even "
    + "hit rate on: look-up ÷ (upstream − hit). Averages of the last half hour or so; a dash is not known."), place);
  const right = { class: "n" };
  await tools.every(5, async () => {
    const { prices, categories } = await get("economics");
    renew(place, table(`Prices as of ${prices.as_of}`, [
      ["category"], ["looks", right], ["look-up", right], ["hit", right], ["upstream", right], ["hit rate", right],
      ["break-even", right], ["net / look", right], ["net / h", right], [`${prices.currency} / h`, right],
      ["tokens / h", right], ["mode", { class: "whole" }], ["why", { class: "text" }],
    ], Object.entries(categories).map((entry) => row(entry, prices.currency))));
  });
}

function row([name, each], currency) {
  return [
    h("a", { href: `#/categories/${name}` }, name), f.count(each.looks), f.milliseconds(each.lookup_ms),
    f.milliseconds(each.hit_ms), f.milliseconds(each.upstream_ms), measured(each),
    each.break_even > 1 ? "never" : f.percent(each.break_even), f.milliseconds(each.net_ms_per_look),
    each.net_ms_per_hour === null ? "–" : f.duration(each.net_ms_per_hour / 1000), f.money(each.cost_per_hour, currency),
    f.count(each.tokens_per_hour), `${each.mode}${each.automatic ? ", auto" : ""}${each.exploring ? ", exploring" : ""}`,
    each.mode_reason || each.missing || "–",
  ];
}

function measured({ hit_rate, break_even }) {
  if (hit_rate === null || break_even === null) return f.percent(hit_rate);
  const pays = hit_rate >= break_even;
  return h("span", { class: pays ? "good" : "error" }, `${f.percent(hit_rate)} ${pays ? "pays" : "does not pay"}`);
}
