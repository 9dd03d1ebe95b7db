// What works, and what does less than it should.

import { get } from "/dashboard/api.js";
import { card, h, pairs, renew } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Health";

export async function show(room, tools) {
  const place = h("div", {});
  room.append(place);
  await tools.every(5, async () => {
    const [ready, stats] = await Promise.all([fetch("/readyz").then((answer) => answer.json()), get("stats")]);
    const flat = (part) => pairs(Object.entries(part).filter(([, value]) => typeof value !== "object" || value === null)
      .map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? f.count(value) : String(value ?? "–")]));
    renew(place,
      card("State", ready.degraded.length
        ? h("ul", {}, ready.degraded.map((line) => h("li", { class: "error" }, line)))
        : h("p", { class: "good" }, "Everything works."),
        pairs([["version", stats.version], ["running for", f.duration(stats.uptime)],
          ["book of categories", ready.categories.version]])),
      h("div", { class: "two" }, card("Index", flat(ready.index)), card("Documents", flat(ready.documents)), card("Embedder", flat(ready.embedder))));
  });
}
