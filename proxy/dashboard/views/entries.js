// What is stored: a list to search, and one entry with everything that is known of it.

import { get, send } from "/dashboard/api.js";
import { card, h, pairs, table, written } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Entries";

export const show = (room, tools, [id]) => (id ? one(room, id) : search(room));

async function search(room) {
  const words = h("input", { type: "search", placeholder: "part of a question" });
  const category = h("select", {}, h("option", { value: "" }, "all"));
  const place = h("div", { class: "card" });
  const find = async (event) => {
    event?.preventDefault();
    const found = await get("entries", { q: words.value, category: category.value, limit: 100 });
    words.disabled = found.entries.some(({ text }) => text === null);
    const right = { class: "n" };
    place.replaceChildren(table(`${f.count(found.matched)} found, the newest ${found.entries.length} of them`,
      [["question", { class: "text" }], ["category"], ["model"], ["hits", right], ["age", right], ["fresh for", right], ["size", right]],
      found.entries.map((each) => [
        h("a", { href: `#/entries/${encodeURIComponent(each.id)}` }, written(each.text, each.id)), each.category, each.model,
        f.count(each.hits), f.duration(each.age), f.duration(each.fresh_for), f.bytes(each.bytes)]), "no entry fits"));
  };
  room.append(h("form", { class: "bar", onsubmit: find }, h("label", {}, "Question", words),
    h("label", {}, "Category", category), h("button", { class: "main" }, "Search")), place);
  const { categories } = await get("categories");
  category.append(...categories.map(({ name }) => h("option", { value: name }, name)));
  await find();
}

async function one(room, id) {
  const entry = await get(`entries/${encodeURIComponent(id)}`);
  if (entry.text) room.querySelector("h1").textContent = entry.text;
  const body = entry.body === null ? written(null) : JSON.stringify(entry.body, null, 2);
  const told = h("p", { role: "status" });
  const act = (question, work) => async () => {
    if (!confirm(question)) return;
    try {
      await work();
      told.textContent = "Done: it is served no more.";
      buttons.forEach((button) => { button.disabled = true; });
    } catch (error) {
      told.textContent = error.message;
    }
  };
  const feedback = (verdict) => send("POST", "feedback", { entry_id: id, verdict });
  const buttons = [
    h("button", { class: "danger", onclick: act("Count this answer as wrong, and delete it?", () => feedback("wrong")) }, "This was wrong"),
    h("button", { class: "danger", onclick: act("Delete this answer?", () => send("DELETE", `entries/${encodeURIComponent(id)}`)) }, "Delete"),
  ];
  const fine = h("button", { onclick: async () => {
    await feedback("right");
    told.textContent = "Counted as right.";
    fine.disabled = true;
  } }, "This was right");
  room.append(h("div", { class: "bar" }, fine, buttons), told,
    card("Entry", pairs([
      ["id", entry.id], ["category", entry.category], ["model", entry.model], ["dialect", entry.dialect],
      ["tenant", entry.tenant], ["namespace", entry.namespace], ["tags", entry.tags.join(", ")],
      ["provenance", entry.provenance], ["stored", f.moment(entry.created)], ["age", f.duration(entry.age)],
      ["fresh for", f.duration(entry.fresh_for)], ["hits", f.count(entry.hits)],
      ["last hit", entry.last_hit ? f.moment(entry.last_hit) : "never"],
      ["cost", `${f.milliseconds(entry.cost_ms)}, ${f.count(entry.tokens_in)} + ${f.count(entry.tokens_out)} tokens`],
      ["size", f.bytes(entry.bytes)]])),
    card("Answer", entry.problem ? h("p", { class: "error" }, entry.problem) : h("pre", { tabindex: "0" }, body)));
}
