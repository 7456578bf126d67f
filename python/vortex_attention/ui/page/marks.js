// What a proposal's state looks like: a colour, a shape and a word, so that any one of them is enough.
import { h, svg } from "/dom.js";

export const WORDS = {
  in: "on the frontier", undecided: "undecided", out: "beaten", twin: "chooses the same pages as another", measuring: "being measured", proposed: "handed in",
  failed: "failed", quarantined: "quarantined", answered: "known already", retracted: "its numbers were taken back",
};

const SHAPES = {
  in: { d: "M0 -5.5A5.5 5.5 0 1 1 -0.01 -5.5Z", full: true },
  undecided: { d: "M0 -6.5L6.5 0L0 6.5L-6.5 0Z", full: true },
  out: { d: "M0 -4A4 4 0 1 1 -0.01 -4Z" },
  twin: { d: "M-4 0A4 4 0 0 1 4 0M-4 0A4 4 0 0 0 4 0M-4 0H4" },
  measuring: { d: "M0 -5.5A5.5 5.5 0 1 1 -5.5 0", wide: true },
  failed: { d: "M-4.5 -4.5L4.5 4.5M-4.5 4.5L4.5 -4.5", wide: true },
  quarantined: { d: "M0 -6L6 5H-6Z", full: true },
  answered: { d: "M-4 -4H4V4H-4Z" },
  retracted: { d: "M-5 0H5", wide: true },
  proposed: { d: "M-4 -4H4V4H-4ZM-4 0H4" },
  passed: { d: "M-5 0L-1.5 4L5.5 -4.5", wide: true },
};

// A shape around (x, y).
export function shape(state, x, y, scale = 1) {
  const { d, full, wide } = SHAPES[state] || SHAPES.out;
  return svg("path", { d, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${scale})`, class: `c-${state}`,
    fill: full ? "currentColor" : "none", stroke: "currentColor", "stroke-width": wide ? 2.2 : 1.4 });
}

export function mark(state) {
  const picture = svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, shape(state, 0, 0));
  return h("span", { class: "mark" }, picture, WORDS[state] || state);
}

export const legend = (states) => h("p", { class: "legend" }, states.map(mark));
