// How loaded the upstreams are, by which sign, and what moves because of it.

import { get } from "/dashboard/api.js";
import { card, gauge, h, pairs, renew, table } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Load";

export async function show(room, tools) {
  const place = h("div", {});
  room.append(place);
  await tools.every(2, async () => {
    const load = await get("load");
    renew(place, ...upstreams(load), moving(load));
  });
}

function upstreams(load) {
  return Object.entries(load.upstreams).map(([name, each]) => card(name,
    each.down ? h("p", { class: "error" }, "It has not answered lately: stale answers are served at once.") : h("p", { class: "good" }, "It answers."),
    places(name, each.admission), state(name, each), ...Object.entries(each.models).map(([model, its]) =>
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

// The line in front of the upstream, where upstream.limit is set.
function places(name, admission) {
  if (!admission) return h("p", { class: "note" }, "No limit to the calls on their way up (upstream.limit).");
  const { limit, adapts, in_use, waiting, refused } = admission;
  const reasons = Object.entries(refused).map(([reason, n]) => `${f.count(n)} ${reason}`).join(", ");
  return h("div", {}, h("p", {}, "places in use ", gauge(`places in use at ${name}`, limit ? Math.min(1, in_use / limit) : 1),
    ` ${f.count(in_use)} of ${f.count(limit)}${adapts ? ", learned" : ""}`),
  pairs([["waiting for a place", f.count(waiting)], ["refused since the start", reasons || "none"]]));
}

function moving(load) {
  const right = { class: "n" };
  const rows = Object.entries(load.categories).map(([name, each]) => [
    h("a", { href: `#/categories/${name}` }, name),
    f.cosine(each.base.threshold), f.cosine(each.in_force.threshold), f.duration(each.base.ttl), f.duration(each.in_force.ttl)]);
  return card("Policies", table("Base and in force, by category",
    [["category"], ["threshold", right], ["in force", right], ["ttl", right], ["in force", right]], rows));
}
