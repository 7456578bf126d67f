// Elements made from text: nothing that a flow, an author or the ledger says is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : plain(String(value)));
  }
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(plain(String(child))));
  }
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Control characters, and those that turn the direction of text, are shown as their code.
export function plain(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export const signed = (value, digits) => (value === null || value === undefined ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`);
export const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export function interval(value, write, digits) {
  if (!value) return "–";
  const ends = value.low === null || value.high === null ? "" : ` [${write(value.low, digits)}, ${write(value.high, digits)}]`;
  return `${write(value.center, digits)}${ends}`;
}

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(value) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (value < 1000 || unit === "GB") return `${unit === "B" ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
    value /= 1000;
  }
  return "";
}

// heads: {text, left}. rows: arrays of cells; a cell is text, an element, or {cell, kind}.
export function table(heads, rows) {
  const cell = (value, index) => {
    const wrapped = value && value.kind !== undefined && !(value instanceof Node);
    return h("td", { class: wrapped ? value.kind : heads[index].left ? "left" : null }, wrapped ? value.cell : value);
  };
  return h("div", { class: "scroll tall" }, h("table", null,
    h("thead", null, h("tr", null, heads.map((head) => h("th", { class: head.left ? "left" : null, scope: "col" }, head.text)))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map(cell))))));
}

export const section = (title, kind, ...children) => h("section", { class: kind, "aria-label": title }, h("h2", null, title), ...children);
