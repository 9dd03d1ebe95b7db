// Making the cache forget, after a look at what that would take.

import { send } from "/dashboard/api.js";
import { h, written } from "/dashboard/dom.js";
import * as f from "/dashboard/format.js";

export const title = "Purge";

const FIELDS = { category: "Category", tenant: "Tenant (digest)", namespace: "Namespace", tag: "Tag", model: "Model",
  older_than: "Older than (7d, 1h)", like: "Like this text" };

export async function show(room) {
  const inputs = Object.fromEntries(Object.keys(FIELDS).map((name) => [name, h("input", { name })]));
  const everything = h("input", { type: "checkbox" });
  const told = h("div", { "aria-live": "polite" });
  const purge = h("button", { type: "button", class: "danger", disabled: true }, "Purge");
  let looked = null;

  const order = () => {
    const given = Object.entries(inputs).filter(([, input]) => input.value.trim()).map(([name, input]) => [name, input.value.trim()]);
    return { ...Object.fromEntries(given), ...(everything.checked ? { everything: true } : {}) };
  };
  const reset = () => { looked = null; purge.disabled = true; };
  const attempt = async (body, say) => {
    try {
      told.replaceChildren(...say(await send("POST", "purge", body)));
      return true;
    } catch (error) {
      told.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
      return false;
    }
  };
  const dry = async (event) => {
    event.preventDefault();
    reset();
    const asked = order();
    if (await attempt({ ...asked, dry_run: true }, (answer) => [
      h("p", {}, `${f.count(answer.matched)} entries: ${summed(answer.categories)}`),
      answer.examples === null ? h("p", {}, written(null)) : h("ul", {}, answer.examples.map((text) => h("li", {}, text)))])) {
      looked = asked;
      purge.disabled = false;
    }
  };
  purge.addEventListener("click", async () => {
    if (!looked || !confirm("Forget these entries for good?")) return;
    await attempt({ ...looked, ...(looked.everything ? { confirm: true } : {}) }, (answer) =>
      [h("p", { class: "good" }, `${f.count(answer.matched)} entries are gone.`)]);
    reset();
  });
  room.append(h("form", { class: "card", onsubmit: dry, oninput: reset },
    h("p", { class: "note" }, "All criteria must fit. Nothing is purged before you have seen how much it would be."),
    h("div", { class: "bar" }, Object.entries(FIELDS).map(([name, label]) => h("label", {}, label, inputs[name])),
      h("label", { class: "check" }, everything, "everything")),
    h("div", { class: "bar" }, h("button", { class: "main" }, "Look what fits"), purge), told));
}

const summed = (categories) => Object.entries(categories).map(([name, n]) => `${f.count(n)} in ${name}`).join(", ") || "none";
