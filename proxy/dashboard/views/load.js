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
  return Object.entries(load.upstreams).map(([name, each]) => card(name,
    state(name, each), ...Object.entries(each.models).map(([model, its]) =>
      h("details", {}, h("summary", {}, `${model}: pressure ${its.pressure.toFixed(2)}`), state(model, its)))));
}

function state(name, each) {
  return h("div", {},
    h("p", {}, "pressure ", gauge(`pressure of ${name}`, each.pressure), ` ${each.pressure.toFixed(2)}`),
    pairs([["in flight", f.count(each.in_flight)],
      ["capacity", each.capacity === null ? "not known yet" : f.count(each.capacity)]]),
    table(`Signals of ${name}`, [["signal"], [""], ["", { class: "n" }]],
      Object.entries(each.signals).map(([signal, value]) => [signal.replaceAll("_", " "), gauge(signal, value), value.toFixed(2)])));
}

function moving(load) {
  const right = { class: "n" };
  const rows = Object.entries(load.categories).map(([name, each]) => [
    h("a", { href: `#/categories/${name}` }, name),
    f.cosine(each.base.threshold), f.cosine(each.in_force.threshold), f.duration(each.base.ttl), f.duration(each.in_force.ttl)]);
  return card("Policies", table("Base and in force, by category",
    [["category"], ["threshold", right], ["in force", right], ["ttl", right], ["in force", right]], rows));
}
