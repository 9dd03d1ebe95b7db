// A question, and the whole decision about it.

import { get, send } from "/dashboard/api.js";
import { card, h, pairs, table, written } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Explain";

export async function show(room) {
  const text = h("textarea", { required: true, placeholder: "What would happen to this question?" });
  const model = h("input", { placeholder: "any" });
  const category = h("select", {}, h("option", { value: "" }, "as classified"));
  const place = h("div", { "aria-live": "polite" });
  const ask = async (event) => {
    event.preventDefault();
    const asked = { text: text.value };
    if (model.value) asked.model = model.value;
    if (category.value) asked.category = category.value;
    try {
      place.replaceChildren(...decision(await send("POST", "explain", asked)));
    } catch (error) {
      place.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
    }
  };
  room.append(h("form", { class: "card", onsubmit: ask }, h("label", {}, "Question", text),
    h("div", { class: "bar" }, h("label", {}, "Model", model), h("label", {}, "Category", category),
      h("button", { class: "main" }, "Explain"))), place);
  const { categories } = await get("categories");
  category.append(...categories.map(({ name }) => h("option", { value: name }, name)));
}

function decision(told) {
  const right = { class: "n" };
  return [
    card("Decision", h("p", {}, h("span", { class: `tag ${told.outcome === "HIT" ? "HIT-semantic" : told.outcome}` }, told.outcome), ` ${told.because}`),
      pairs([
        ["category", `${told.category}, by ${told.classified_by}${told.confidence === null ? "" : ` (${f.percent(told.confidence, 0)})`}`],
        ["threshold in force", f.cosine(told.threshold)], ["ttl in force", f.duration(told.ttl)],
        ["pressure", told.pressure?.toFixed(2)], ["scope", told.scope], ["guards", told.guards.join(", ") || "none"],
        ["embedding", told.embedding]])),
    card("Nearest entries", table("Best first", [["similarity", right], ["needed", right], ["verdict"], ["against it"], ["question", { class: "text" }], ["category"], ["age", right]],
      told.nearest.map((each) => [f.cosine(each.similarity), f.cosine(each.threshold), each.verdict, each.reason || "–",
        h("a", { href: `#/entries/${encodeURIComponent(each.entry.id)}` }, written(each.entry.text, each.entry.id)), each.entry.category, f.duration(each.entry.age)]),
      "nothing is stored to compare it with")),
  ];
}
