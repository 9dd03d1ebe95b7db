// The frame: which view is shown, what arrives live, light or dark.

import { keepToken, live } from "/dashboard/api.js";
import { h } from "/dashboard/dom.js";
import * as categories from "/dashboard/views/categories.js";
import * as decisions from "/dashboard/views/decisions.js";
import * as economics from "/dashboard/views/economics.js";
import * as entries from "/dashboard/views/entries.js";
import * as explain from "/dashboard/views/explain.js";
import * as health from "/dashboard/views/health.js";
import * as load from "/dashboard/views/load.js";
import * as overview from "/dashboard/views/overview.js";
import * as purge from "/dashboard/views/purge.js";

const VIEWS = { overview, categories, economics, load, decisions, entries, explain, purge, health };
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const state = document.getElementById("state");

let leave = () => {};
let hearing = () => {};

function place() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return VIEWS[name] ? [name, rest.map(decodeURIComponent)] : ["overview", []];
}

async function show(moved) {
  leave();
  const [name, rest] = place();
  document.title = `${VIEWS[name].title} · nearhit`;
  for (const link of nav.children) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = h("h1", { tabindex: "-1" }, rest[0] ?? VIEWS[name].title);
  const room = h("div", {}, heading);
  main.replaceChildren(room);
  if (moved) heading.focus();
  const cleanings = [];
  leave = () => cleanings.splice(0).forEach((clean) => clean());
  hearing = () => {};
  const tools = {
    every(seconds, work) {
      const guarded = () => work().then(() => complaint(room)?.remove(), (error) => complain(room, error));
      const timer = setInterval(() => document.hidden || guarded(), seconds * 1000);
      cleanings.push(() => clearInterval(timer));
      return guarded();
    },
    hear: (heard) => { hearing = heard; },
    onLeave: (clean) => cleanings.push(clean),
  };
  try {
    await VIEWS[name].show(room, tools, rest);
  } catch (error) {
    complain(room, error);
  }
}

const complaint = (room) => room.querySelector(":scope > .error[role=alert]");

function complain(room, error) {
  let line = complaint(room);
  if (!line) room.prepend(line = h("p", { class: "error", role: "alert" }));
  line.textContent = error.message;
}

function say(what) {
  const told = { live: "live", off: "no connection", locked: "locked" };
  state.textContent = told[what];
  state.classList.toggle("off", what !== "live");
  if (what === "locked") askForToken();
}

function askForToken() {
  const token = h("input", { type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    keepToken(token.value);
    location.reload();
  };
  main.replaceChildren(h("form", { class: "card bar", onsubmit: submit },
    h("label", {}, "Admin token", token), h("button", { class: "main" }, "Open")));
  token.focus();
}

function theme(chosen) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = chosen ?? localStorage.getItem("nearhit-theme") ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now;
  return now;
}

theme();
document.getElementById("theme").addEventListener("click", () => {
  const next = theme() === "dark" ? "light" : "dark";
  localStorage.setItem("nearhit-theme", next);
  theme(next);
  show(false);
});
for (const [name, view] of Object.entries(VIEWS))
  nav.append(h("a", { href: `#/${name}`, "data-view": name }, view.title));
addEventListener("hashchange", () => show(true));
show(false);
live((told) => hearing(told), say);
