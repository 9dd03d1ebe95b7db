// Every decision as it is made.

import { get } from "/dashboard/api.js";
import { h, options, written } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Decisions";

const ROWS = 200;
const OUTCOMES = ["", "HIT exact", "HIT semantic", "HIT inflight", "STALE", "MISS", "BYPASS", "SHADOW"];

export const outcome = (call) => (call.outcome === "HIT" ? `HIT ${call.tier}` : call.outcome);

export function tag(call) {
  return h("span", { class: `tag ${outcome(call).replace(" ", "-")}` }, outcome(call));
}

export async function show(room, tools) {
  const kind = h("select", {}, options(OUTCOMES, ""));
  const category = h("select", {}, h("option", { value: "" }, "all"));
  const words = h("input", { type: "search", placeholder: "part of a question" });
  const hold = h("input", { type: "checkbox" });
  const rows = h("tbody", {});
  const more = h("p", { class: "note more" });
  const columns = ["at", "outcome", "category", "question", "matched", "similarity", "needed", "why", "took"];
  const numeric = new Set(["similarity", "needed", "took"]);
  room.append(
    h("div", { class: "bar" }, h("label", {}, "Outcome", kind), h("label", {}, "Category", category),
      h("label", {}, "Text", words), h("label", { class: "check" }, hold, "hold still")), more,
    h("div", { class: "wide card", tabindex: "0", role: "region", "aria-label": "Decisions" }, h("table", {},
      h("caption", {}, `The last ${ROWS} that fit, newest first`),
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col", class: numeric.has(name) ? "n" : null }, name)))),
      rows)));

  let calls = [];
  const fits = (call) =>
    (!kind.value || outcome(call) === kind.value) && (!category.value || call.category === category.value)
    && (!words.value || `${call.query ?? ""} ${call.matched ?? ""}`.toLowerCase().includes(words.value.toLowerCase()));
  const redraw = () => rows.replaceChildren(...calls.filter(fits).slice(0, ROWS).map((call) => row(call, false)));
  for (const control of [kind, category, words]) control.addEventListener("input", redraw);

  const known = new Set();
  const learn = (call) => {
    if (!call.category || known.has(call.category)) return;
    known.add(call.category);
    category.append(h("option", { value: call.category }, call.category));
  };
  calls = (await get("recent", { limit: 1000 })).calls;
  calls.forEach(learn);
  redraw();
  tools.hear((told) => {
    if (hold.checked || !told.calls.length) return;
    more.textContent = told.skipped ? `In the last second ${told.skipped} calls more, too many to list` : "";
    told.calls.forEach(learn);
    calls = [...told.calls.toReversed(), ...calls].slice(0, 1000);
    rows.prepend(...told.calls.toReversed().filter(fits).map((call) => row(call, true)));
    while (rows.children.length > ROWS) rows.lastChild.remove();
  });
}

function row(call, fresh) {
  const why = call.reason || call.error || call.degraded;
  const matched = call.entry_id && call.outcome !== "MISS"
    ? h("a", { href: `#/entries/${encodeURIComponent(call.entry_id)}` }, written(call.matched, call.entry_id)) : written(call.matched);
  return h("tr", { class: fresh ? "new" : null },
    h("td", {}, f.time(call.at)), h("td", {}, tag(call)), h("td", {}, call.category || "–"),
    h("td", { class: "text" }, written(call.query)), h("td", { class: "text" }, matched),
    h("td", { class: "n" }, f.cosine(call.similarity)), h("td", { class: "n" }, f.cosine(call.threshold)),
    h("td", { class: "text" }, why || "–"), h("td", { class: "n" }, f.milliseconds(call.total_ms)));
}
