// Elements and their texts. Everything that callers wrote goes in as text, never as markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

// Puts these children in, and leaves alone what stays the same: focus, scrolling and opened details outlive it.
export function renew(place, ...fresh) {
  fresh.flat().forEach((node, i) => {
    const old = place.childNodes[i];
    if (!old) place.append(node);
    else if (old.nodeName !== node.nodeName) old.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) { if (old.data !== node.data) old.data = node.data; } else same(old, node);
  });
  const count = fresh.flat().length;
  while (place.childNodes.length > count) place.lastChild.remove();
}

function same(old, node) {
  for (const { name } of [...old.attributes]) if (!node.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  renew(old, ...node.childNodes);
}

export function table(caption, columns, rows, empty = "nothing yet") {
  const head = columns.map(([name, options = {}]) => h("th", { scope: "col", class: options.class }, name));
  const body = rows.map((cells) =>
    h("tr", {}, cells.map((cell, i) => h("td", { class: columns[i][1]?.class }, cell ?? "–"))));
  const none = h("tr", {}, h("td", { colspan: columns.length, class: "note" }, empty));
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, rows.length ? body : none)));
}

// A question or an answer: null where admin.show_text is off.
export const written = (text, instead = "") => (text === null
  ? h("span", { class: "note" }, `hidden by setting ${instead}`.trim()) : text || instead || "–");

// Of something that is better low, unless it is just a share.
export const gauge = (name, value, limits = { low: "0.4", high: "0.8", optimum: "0" }) =>
  h("meter", { min: "0", max: "1", ...limits, value: String(value), "aria-label": name });

export const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), ...children);

export const tile = (name, value, beside = "") =>
  h("dl", { class: "tile" }, h("dt", {}, name), h("dd", {}, value), h("dd", {}, beside));

export const pairs = (entries) =>
  h("dl", { class: "pairs" }, entries.filter(([, value]) => value != null && value !== "")
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

export const options = (names, chosen) => names.map((name) => h("option", { value: name, selected: name === chosen }, name || "all"));
