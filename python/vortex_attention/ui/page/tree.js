// The family tree: a column a round, a mark a proposal, a line from each parent to each child. Pointing at one lights its line of descent.
import { h, svg } from "/dom.js";
import { hit } from "/charts.js";

const MOST = 48; // columns: the first, and the latest of the others
const COLUMN = 66, ROW = 34, TOP = 34, LEFT = 30;

export function tree(proposals, words, open) {
  if (!proposals.length) return h("p", { class: "note" }, "Nothing has been proposed yet.");
  const columns = [...new Set(proposals.map((one) => one.column))].sort((a, b) => a - b);
  const order = columns.length > MOST ? [columns[0], ...columns.slice(1 - MOST)] : columns;
  proposals = proposals.filter((one) => order.includes(one.column));
  const place = new Map(), filled = new Map();
  // Children stand near their parents: a column is ordered by the mean height of the parents.
  for (const column of order) {
    const members = proposals.filter((one) => one.column === column);
    const wish = (one) => {
      const heights = one.parents.filter((id) => place.has(id)).map((id) => place.get(id).y);
      return heights.length ? heights.reduce((a, b) => a + b, 0) / heights.length : Infinity;
    };
    const wishes = new Map(members.map((one) => [one.id, wish(one)]));
    members.sort((a, b) => (wishes.get(a.id) === wishes.get(b.id) ? a.id - b.id : wishes.get(a.id) - wishes.get(b.id)));
    members.forEach((one, index) => place.set(one.id, { x: LEFT + order.indexOf(column) * COLUMN, y: TOP + index * ROW }));
    filled.set(column, members.length);
  }
  const width = LEFT + order.length * COLUMN, height = TOP + Math.max(...filled.values()) * ROW;
  const root = svg("svg", { class: "tree", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "family tree" });
  for (const column of order) root.append(svg("text", { x: LEFT + order.indexOf(column) * COLUMN, y: 12, "text-anchor": "middle", class: "quiet" }, proposals.find((one) => one.column === column).label));
  const edges = [], marks = new Map();
  for (const one of proposals) {
    for (const parent of one.parents) {
      if (!place.has(parent) || parent === one.id) continue;
      const a = place.get(parent), b = place.get(one.id), middle = (a.x + b.x) / 2;
      const line = svg("path", { class: "edge", d: `M${a.x + 7} ${a.y}C${middle} ${a.y} ${middle} ${b.y} ${b.x - 7} ${b.y}` });
      edges.push({ parent, child: one.id, line });
      root.append(line);
    }
  }
  for (const one of proposals) {
    const { x, y } = place.get(one.id);
    const group = hit(one.state, x, y, words(one), () => open(one.id));
    group.append(svg("text", { x: x + 9, y: y - 5 }, String(one.id)));
    for (const kind of ["mouseenter", "focus"]) group.addEventListener(kind, () => light(one.id));
    for (const kind of ["mouseleave", "blur"]) group.addEventListener(kind, () => light(null));
    marks.set(one.id, group);
    root.append(group);
  }
  function light(id) {
    const family = id === null ? null : new Set([...walk(id, "child", "parent"), ...walk(id, "parent", "child")]);
    for (const { parent, child, line } of edges) {
      const lit = family !== null && family.has(parent) && family.has(child);
      line.classList.toggle("lit", lit);
      line.classList.toggle("dim", family !== null && !lit);
    }
    for (const [other, group] of marks) group.classList.toggle("dim", family !== null && !family.has(other));
  }
  function walk(id, from, to) {
    const seen = new Set([id]), left = [id];
    while (left.length) {
      const now = left.pop();
      for (const edge of edges) if (edge[from] === now && !seen.has(edge[to])) { seen.add(edge[to]); left.push(edge[to]); }
    }
    return seen;
  }
  const left = columns.length - order.length;
  return h("div", null, left ? h("p", { class: "note" }, `${left} earlier rounds are not drawn; their proposals stand in the list below.`) : null, h("div", { class: "scroll tall" }, root));
}
