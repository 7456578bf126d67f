// Charts as SVG: the frontier, values by iteration with intervals, the curve of hypervolume. Sizes are in the units of the viewBox.
import { h, svg } from "/dom.js";
import { shape } from "/marks.js";

const LEFT = 58, RIGHT = 14, TOP = 12, BOTTOM = 40;

// Around n round numbers that span [low, high].
export function ticks(low, high, n = 6) {
  const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

// A plane with grid and labels. x, y: {low, high, title, whole}; a y without a title has rows of the caller's own. Gives the <svg> and functions from values to places.
export function plane(title, x, y, { width = 640, height = 340 } = {}) {
  const span = (axis) => (axis.high === axis.low ? { low: axis.low - 1, high: axis.high + 1 } : axis);
  const xs = span(x), ys = span(y);
  const px = (value) => LEFT + ((value - xs.low) / (xs.high - xs.low)) * (width - LEFT - RIGHT);
  const py = (value) => height - BOTTOM - ((value - ys.low) / (ys.high - ys.low)) * (height - TOP - BOTTOM);
  const clampY = (value) => Math.min(Math.max(value, ys.low), ys.high), clampX = (value) => Math.min(Math.max(value, xs.low), xs.high);
  const root = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const lines = [];
  for (const tick of ticks(xs.low, xs.high, x.whole ? Math.min(8, xs.high - xs.low || 1) : 6)) {
    if (x.whole && !Number.isInteger(tick)) continue;
    lines.push(`M${px(tick).toFixed(1)} ${TOP}V${height - BOTTOM}`);
    root.append(svg("text", { x: px(tick), y: height - BOTTOM + 16, "text-anchor": "middle", class: "quiet" }, String(tick).replace("-", "−")));
  }
  for (const tick of y.title ? ticks(ys.low, ys.high, 5) : []) {
    lines.push(`M${LEFT} ${py(tick).toFixed(1)}H${width - RIGHT}`);
    root.append(svg("text", { x: LEFT - 6, y: py(tick) + 4, "text-anchor": "end", class: "quiet" }, String(tick).replace("-", "−")));
  }
  root.prepend(svg("path", { class: "grid", d: lines.join("") }));
  root.append(svg("text", { x: (LEFT + width - RIGHT) / 2, y: height - 6, "text-anchor": "middle" }, x.title));
  root.append(svg("text", { x: 14, y: (TOP + height - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(TOP + height - BOTTOM) / 2})` }, y.title));
  return { root, px: (v) => px(clampX(v)), py: (v) => py(clampY(v)), xs, ys, width, height };
}

// A mark that can be clicked, reached with the keyboard, and says what it is.
export function hit(state, x, y, words, open, scale = 1) {
  return svg("g", { class: "hit", tabindex: 0, role: "button", "aria-label": words, onclick: open,
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } } },
    svg("title", null, words), svg("circle", { cx: x, cy: y, r: 11, class: "halo" }), shape(state, x, y, scale));
}

export function whiskers(place, state, x, y, xi, yi) {
  const parts = [];
  if (xi && xi[0] !== null) parts.push(`M${place.px(xi[0]).toFixed(1)} ${y.toFixed(1)}H${place.px(xi[1]).toFixed(1)}`);
  if (yi && yi[0] !== null) parts.push(`M${x.toFixed(1)} ${place.py(yi[0]).toFixed(1)}V${place.py(yi[1]).toFixed(1)}`);
  return svg("path", { class: `whisker c-${state}`, stroke: "currentColor", d: parts.join("") });
}

// The range that holds all values, and of their intervals what does not dwarf them; whiskers beyond it end at the edge.
function range(values, lows, highs, ...also) {
  const low = Math.min(...values), high = Math.max(...values), room = 0.6 * (high - low) || Infinity;
  return [Math.min(...lows.map((end) => Math.max(end, low - room)), ...also), Math.max(...highs.map((end) => Math.min(end, high + room)), ...also)];
}

// Texts beside marks, those left out that would cover another one.
function labels(root, wanted) {
  const taken = [];
  for (const { x, y, text } of wanted) {
    const box = [x + 7, y - 18, x + 12 + 7 * text.length, y - 5];
    if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    root.append(svg("text", { x: x + 8, y: y - 7 }, text));
  }
}

const padded = (low, high, share = 0.06) => ({ low: low - share * (high - low || 1), high: high + share * (high - low || 1) });

// Speed to the right, accuracy upwards; both intervals; the margin as a line.
export function frontier(points, margin, words, open) {
  if (!points.length) return h("p", { class: "note" }, "No flow has been measured to the end yet.");
  // Points far below all that is on the frontier would squeeze it: the axis ends a little below the lowest of the others.
  const alive = points.filter((point) => point.state !== "out");
  const low = Math.min(-2 * margin, ...(alive.length ? alive : points).map((point) => point.gain_interval[0])) - 0.25;
  const shown = points.filter((point) => point.gain >= low);
  const y = padded(...range(shown.map((p) => p.gain), shown.map((p) => p.gain_interval[0]), shown.map((p) => p.gain_interval[1]), -margin, 0));
  const x = padded(...range(shown.map((p) => p.ratio), shown.map((p) => p.ratio_interval[0]), shown.map((p) => p.ratio_interval[1]), 1));
  const place = plane("accuracy and speed of the measured flows", { ...x, title: "decode speed, full attention = 1" }, { ...y, title: "answer, nat beside full attention" }, { height: 400 });
  place.root.append(svg("path", { class: "zero", d: `M${LEFT} ${place.py(0)}H${place.width - RIGHT}M${LEFT} ${place.py(-margin)}H${place.width - RIGHT}` }));
  place.root.append(svg("text", { x: LEFT + 4, y: place.py(0) - 4, class: "quiet" }, "full attention"));
  place.root.append(svg("text", { x: LEFT + 4, y: place.py(-margin) + 13, class: "quiet" }, `margin, −${margin} nat`));
  const order = { out: 0, undecided: 1, in: 2 };
  for (const point of [...shown].sort((a, b) => order[a.state] - order[b.state])) {
    const px = place.px(point.ratio), py = place.py(point.gain);
    if (point.state !== "out") place.root.append(whiskers(place, point.state, px, py, point.ratio_interval, point.gain_interval));
    place.root.append(hit(point.state, px, py, words(point), () => open(Number(point.key))));
  }
  const named = shown.filter((p) => p.state !== "out").sort((a, b) => order[b.state] - order[a.state] || b.p_non_dominated - a.p_non_dominated);
  labels(place.root, named.map((point) => ({ x: place.px(point.ratio), y: place.py(point.gain), text: point.key })));
  const below = points.length - shown.length;
  return h("div", null, place.root, below ? h("p", { class: "note" }, `${below} further down, below ${y.low.toFixed(2).replace("-", "−")} nat`) : null);
}

// One value of each proposal with its interval, and the best so far. rows: {id, at, state, value, low, high}.
export function byIteration(title, rows, last, yTitle, { floor = null, line = null, words, open }) {
  if (!rows.length) return h("p", { class: "note" }, "Nothing has been measured yet.");
  const seen = rows.filter((row) => floor === null || row.value >= floor), also = line === null ? [] : [line];
  const [bottom, top] = range((seen.length ? seen : rows).map((row) => row.value), seen.map((row) => row.low ?? row.value), seen.map((row) => row.high ?? row.value), ...also);
  const y = padded(bottom, top);
  const place = plane(title, { low: 0, high: Math.max(last, 1) + 1, title: "proposal", whole: true }, { ...y, title: yTitle });
  if (line !== null) place.root.append(svg("path", { class: "zero", d: `M${LEFT} ${place.py(line)}H${place.width - RIGHT}` }));
  let best = -Infinity, d = "";
  for (const row of rows) {
    if (!row.counts || row.value <= best) continue;
    best = row.value;
    d += d ? `H${place.px(row.id).toFixed(1)}V${place.py(best).toFixed(1)}` : `M${place.px(row.id).toFixed(1)} ${place.py(best).toFixed(1)}`;
  }
  if (d) place.root.append(svg("path", { class: "curve c-best", stroke: "currentColor", d: `${d}H${place.px(last)}` }));
  for (const row of rows) {
    const x = place.px(row.id), at = place.py(row.value);
    if (row.low !== null && row.low !== undefined) place.root.append(whiskers(place, row.state, x, at, null, [row.low, row.high]));
    place.root.append(hit(row.state, x, at, words(row), () => open(row.id), 0.8));
  }
  return place.root;
}

// Hypervolume after every measured flow, with the band of its interval.
export function growth(curve, last) {
  if (!curve.length) return h("p", { class: "note" }, "No flow has been measured to the end yet.");
  const place = plane("hypervolume by proposal", { low: 0, high: Math.max(last, 1) + 1, title: "proposal", whole: true },
    { low: 0, high: 1.06 * Math.max(...curve.map((one) => one.high), 0.01), title: "hypervolume, nat × log speed" });
  const steps = (name) => {
    const found = [];
    curve.forEach((one, index) => {
      const x = place.px(Number(one.key)), next = place.px(index + 1 < curve.length ? Number(curve[index + 1].key) : last);
      found.push([x, place.py(one[name])], [next, place.py(one[name])]);
    });
    return found;
  };
  const path = (points) => points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  place.root.append(svg("path", { class: "band c-in", fill: "currentColor", d: `M${path(steps("low"))}L${path(steps("high").reverse())}Z` }));
  place.root.append(svg("path", { class: "curve c-in", stroke: "currentColor", d: `M${path(steps("center"))}` }));
  return place.root;
}

// Gains of single items as dots, one row a gate; ratios of rounds likewise.
export function strip(title, groups, xTitle, line) {
  const values = groups.flatMap((group) => group.values.map((one) => one.value));
  if (!values.length) return null;
  const x = padded(Math.min(line, ...values), Math.max(line, ...values));
  const place = plane(title, { ...x, title: xTitle }, { low: 0, high: groups.length, title: "" }, { height: 62 + 46 * groups.length });
  place.root.append(svg("path", { class: "zero", d: `M${place.px(line)} ${TOP}V${place.height - BOTTOM}` }));
  groups.forEach((group, index) => {
    const y = place.py(groups.length - index - 0.5);
    place.root.append(svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, group.name));
    group.values.forEach((one, at) => place.root.append(svg("circle", { cx: place.px(one.value), cy: y + ((at % 5) - 2) * 5, r: 3, class: "c-in", fill: "currentColor", opacity: 0.65 }, svg("title", null, one.words))));
  });
  return place.root;
}
