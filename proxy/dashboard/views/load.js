// How loaded the upstreams are, by which sign, and what moves because of it.

import { get } from "/dashboard/api.js";
import { card, h, pairs, table } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Load";

export async function show(room, tools) {
  const place = h("div", {});
  room.append(place);
  await tools.every(2, async () => {
    const load = await get("load");
    place.replaceChildren(...upstreams(load), moving(load));
  });
}

const gauge = (name, value) => h("meter", { min: "0", max: "1", low: "0.4", high: "0.8", optimum: "0", value: String(value), "aria-label": name });

function upstreams(load) {
  return Object.entries(load.upstreams).map(([name, each]) => card(`Upstream ${name}`,
    h("p", {}, "pressure ", gauge(`pressure of ${name}`, each.pressure), ` ${each.pressure.toFixed(2)}`),
    table("Signals", [["signal"], [""], ["", { class: "n" }]],
      Object.entries(each.signals).map(([signal, value]) => [signal.replaceAll("_", " "), gauge(signal, value), value.toFixed(2)])),
    pairs(Object.entries(each).filter(([, value]) => typeof value !== "object")
      .map(([key, value]) => [key.replaceAll("_", " "), typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value)]))));
}

function moving(load) {
  const right = { class: "n" };
  const rows = Object.entries(load.categories).map(([name, each]) => [
    h("a", { href: `#/categories/${name}` }, name),
    f.cosine(each.threshold.base), f.cosine(each.threshold.in_force), f.duration(each.ttl.base), f.duration(each.ttl.in_force)]);
  return card("Policies", table("Base and in force, by category",
    [["category"], ["threshold", right], ["in force", right], ["ttl", right], ["in force", right]], rows));
}
