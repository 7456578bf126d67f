// The page: asks for the study every two seconds, draws it again when something was written. The address says which study and proposal are open.
import { bytes, duration, fixed, h, interval, plain, section, signed, svg, table } from "/dom.js";
import * as charts from "/charts.js";
import { legend, mark, WORDS } from "/marks.js";
import { tree } from "/tree.js";
import { show } from "/details.js";

const EVERY = 2000, PAUSE = 5000; // milliseconds
const ROWS = 300; // of the list of all proposals
const page = document.getElementById("page"), line = document.getElementById("line"), link = document.getElementById("link");
const select = document.getElementById("studies"), box = document.getElementById("details");
// Somebody who is typing, or moving the slider, is not interrupted.
let typed = 0;
page.addEventListener("input", () => { typed = Date.now(); });
let study = null, tag = null, last = null, chosenRound = null, drawnFor = null, filter = "";

const asked = () => new URLSearchParams(location.hash.slice(1));
function go(changes) {
  const next = asked();
  for (const [name, value] of Object.entries(changes)) value === null ? next.delete(name) : next.set(name, value);
  location.hash = next.toString();
}
const open = (id) => go({ study, proposal: id });
const close = () => go({ proposal: null });

async function get(path, parameters, headers = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { headers, cache: "no-store" });
  if (answer.status === 304) return [null, tag];
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error.message), { said: true });
  return [body, answer.headers.get("ETag")];
}

const label = (round) => (round === 0 ? "outside" : round === 1 ? "ready" : `round ${round - 1}`);
const say = (row) => `${row.id} ${row.name}: ${WORDS[row.state] || row.state}${row.measured.gain ? `, ${signed(row.measured.gain.center, 3)} nat` : ""}${row.measured.ratio ? `, ${fixed(row.measured.ratio.center, 2)} times` : ""}. ${row.hypothesis}`;
const sayPoint = (data) => (point) => {
  const row = data.proposals.find((one) => one.id === Number(point.key));
  return `${point.key} ${row ? row.name : ""}: ${signed(point.gain, 3)} nat [${signed(point.gain_interval[0], 3)}, ${signed(point.gain_interval[1], 3)}], ` +
    `${fixed(point.ratio, 2)} times [${fixed(point.ratio_interval[0], 2)}, ${fixed(point.ratio_interval[1], 2)}], on the frontier with probability ${fixed(point.p_non_dominated, 2)}`;
};

function gatesOf(data, row) {
  const working = data.working.find((one) => one.proposal === row.id);
  return h("span", { class: "gates" }, data.gates.filter((gate) => gate !== "confirm" || row.gates.confirm).map((gate) => {
    const verdict = row.gates[gate];
    if (verdict) return h("span", { class: `c-${verdict.status}`, title: plain(verdict.reason) }, `${gate} ${verdict.status === "passed" ? "✓" : "✗"}`);
    return h("span", { class: working && working.gate === gate ? "now" : "later" }, working && working.gate === gate ? `${gate} …` : gate);
  }));
}

function progress(data, working) {
  if (!working) return "";
  const parts = [];
  if (working.since) parts.push(`for ${duration(Math.max(0, (Date.parse(data.now) - Date.parse(working.since)) / 1000))}`);
  if (working.items) parts.push(`${working.items}${working.of ? ` of ${working.of}` : ""} items`);
  if (working.blocks) parts.push(`${working.blocks} blocks`);
  return `${working.gate} ${parts.join(", ")} (${working.worker.split(":").slice(0, 2).join(" ")})`;
}

function waiting(data, row) {
  const turn = data.queue.findIndex((one) => one.proposal === row.id);
  return turn < 0 ? "waiting" : `waits for ${data.queue[turn].gate}, turn ${turn + 1}, asked by ${data.queue[turn].agent}`;
}

function roundNow(data) {
  if (!data.proposals.length) return section("The round in progress", "", h("p", { class: "note" }, "Nothing has been proposed yet."));
  const busy = data.proposals.filter((row) => row.state === "measuring");
  const round = busy.length ? Math.max(...busy.map((row) => row.round)) : Math.max(...data.proposals.map((row) => row.round));
  const rows = data.proposals.filter((row) => row.round === round || (row.state === "measuring" && row.round !== round));
  const done = rows.filter((row) => row.state !== "measuring").length;
  return section(busy.length ? `In progress: ${label(round)}, ${done} of ${rows.length} done` : `Latest: ${label(round)}, all ${rows.length} done`, "",
    h("div", { class: "bar" }, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "c-in", fill: "currentColor", width: (100 * done) / rows.length, height: 10 }))),
    table([{ text: "proposal", left: true }, { text: "flow", left: true }, { text: "gates", left: true }, { text: "now", left: true }, { text: "gain, nat" }, { text: "× full" }, { text: "hypothesis", left: true }],
      rows.map((row) => [jump(row.id), row.name, gatesOf(data, row), progress(data, data.working.find((one) => one.proposal === row.id)) || (row.state === "measuring" ? waiting(data, row) : mark(row.state)),
        interval(row.measured.gain, signed, 3), interval(row.measured.ratio, fixed, 2), { kind: "words", cell: row.hypothesis }])));
}

const jump = (id) => h("button", { class: "link", onclick: () => open(id) }, String(id));

function frontierNow(data) {
  const rounds = [...new Set(data.proposals.map((row) => row.round))].sort((a, b) => a - b);
  const place = h("div", null, charts.frontier(data.points, data.margin, sayPoint(data), open));
  const said = h("output", null, "now");
  const slider = h("input", { type: "range", min: 0, max: rounds.length, value: rounds.length, "aria-label": "round", oninput: async (event) => {
    const at = Number(event.target.value);
    chosenRound = at >= rounds.length ? null : rounds[at];
    said.textContent = chosenRound === null ? "now" : `after ${label(chosenRound)}`;
    await then();
  } });
  async function then() {
    let points = data.points;
    if (chosenRound !== null) {
      const wanted = chosenRound;
      [{ points }] = await get("/api/frontier", { study, round: wanted });
      if (wanted !== chosenRound) return;
    }
    place.replaceChildren(charts.frontier(points, data.margin, sayPoint(data), open));
  }
  if (chosenRound !== null) { slider.value = rounds.indexOf(chosenRound); said.textContent = `after ${label(chosenRound)}`; then(); }
  return section("Frontier", "half", legend(["in", "undecided", "out"]), place, h("label", { class: "slider" }, "as it stood", slider, said),
    h("p", { class: "note" }, "Lines are 95 % intervals. In: not beaten in 95 % of the draws; beaten: not beaten in at most 5 %."));
}

function charted(data) {
  const last = Math.max(0, ...data.proposals.map((row) => row.id)), first = Math.min(...data.proposals.map((row) => row.id), last);
  // A study's proposals are numbered through the whole ledger: the axis counts from its own first one.
  const own = new Map(data.proposals.map((row, index) => [row.id, index + 1]));
  const rows = (name) => data.proposals.filter((row) => row.measured[name]).map((row) => ({ ...row, id: own.get(row.id), real: row.id, counts: !["failed", "quarantined"].includes(row.state),
    value: row.measured[name].center, low: row.measured[name].low, high: row.measured[name].high }));
  const words = (row) => say({ ...row, id: row.real }), to = (number) => open([...own].find(([, at]) => at === number)[0]);
  const gains = rows("gain"), alive = gains.filter((row) => row.counts);
  const floor = alive.length ? Math.min(...alive.map((row) => row.value)) - 0.2 : null;
  return [
    section("Frontier over time", "half", charts.growth(data.growth.map((one) => ({ ...one, key: own.get(Number(one.key)) })), data.proposals.length),
      h("p", { class: "note" }, "The area that the flows so far cover, speed 1 and −3 nat being the corner; the band is its 95 % interval. It counts proposals in their order.")),
    section("Accuracy by iteration", "half", charts.byIteration("gain by proposal", gains, data.proposals.length, "nat beside full attention", { line: 0, floor, words, open: to }),
      h("p", { class: "note" }, "The line is the best so far. Marks as in the family tree.")),
    section("Throughput by iteration", "half", charts.byIteration("speed by proposal", rows("ratio"), data.proposals.length, "× full attention", { line: 1, words, open: to })),
  ];
}

function family(data) {
  const rows = data.proposals.map((row) => ({ ...row, column: row.round === 0 ? 0.5 : row.round, label: label(row.round) }));
  const states = [...new Set(rows.map((row) => row.state))];
  return section("Family tree", "", legend(states), tree(rows, say, open));
}

function confirmations(data) {
  if (!data.confirmed.length) return null;
  const claims = (kind) => new Map(data.claims.filter((one) => one.kind === kind).map((one) => [one.proposal, one]));
  const faster = claims("faster"), better = claims("more accurate");
  const p = (value) => (value === null || value === undefined ? "–" : value.toExponential(1));
  const times = (one) => (one ? `${fixed(one.ratio, 2)} [${fixed(one.ratio_low, 2)}, ${fixed(one.ratio_high, 2)}]` : "–");
  const nat = (one) => (one ? `${signed(one.advantage, 3)} [${signed(one.advantage_low, 3)}, ${signed(one.advantage_high, 3)}]` : "–");
  const than = (one) => (one ? [jump(one.against), one.against_accurate ? "" : " (not accurate)"] : "–");
  const shown = (one) => (one ? `${one.wins ? "yes" : "no"}, p ${p(one.p)}` : "–");
  const both = (one) => { const [fast, good] = [faster.get(one.proposal), better.get(one.proposal)]; return [than(fast), times(fast), shown(fast), than(good), nat(good), times(good), shown(good)]; };
  return section("Confirmed on items and blocks that no gate had shown", "",
    table([{ text: "proposal", left: true }, { text: "gain, nat" }, { text: "at least" }, { text: "× full" }, { text: "p" }, { text: "accurate" },
      { text: "than" }, { text: "× its speed" }, { text: "faster" }, { text: "than" }, { text: "nat over it" }, { text: "× its speed" }, { text: "more accurate" }],
      data.confirmed.map((one) => [jump(one.proposal), signed(one.gain, 3), signed(one.gain_low, 3), fixed(one.ratio, 2), p(one.p_accurate), one.accurate ? "yes" : "no", ...both(one)])),
    h("p", { class: "note" }, `Accurate: losing ${data.margin} nat or more is rejected. A found flow beats the ready flows that were confirmed accurate (all, where none was) when it is faster than each and accurate, or more accurate than each and not slower than any by more than ${(100 * data.speed_margin).toFixed(0)} %; beside the hardest of them in each way. 5 % over all confirmations that the study may have (Holm, 1979), both ways counted.`));
}

function failures(data) {
  return section("Where proposals ended", "", data.failures.length
    ? table([{ text: "gate", left: true }, { text: "", left: true }, { text: "how many" }, { text: "reason", left: true }, { text: "proposals", left: true }],
      data.failures.map((row) => [row.gate, mark(row.status), String(row.count), { kind: "words", cell: row.count > 1 ? row.reason : row.example },
        { kind: "words", cell: row.proposals.flatMap((id, index) => (index ? [", ", jump(id)] : [jump(id)])) }]))
    : h("p", { class: "note" }, "No proposal has been turned away."));
}

function cost(data) {
  const total = data.cost.seconds || 1, spent = [...new Set(data.cost.agents.flatMap((row) => Object.keys(row.spent)))].sort();
  return section("Cost", "",
    h("p", { class: "note" }, `${duration(data.cost.seconds)} of measuring in all`),
    table([{ text: "gate", left: true }, { text: "verdicts" }, { text: "took" }, { text: "median" }, { text: "share" }, { text: "", left: true }],
      data.cost.gates.map((row) => [row.gate, Object.entries(row.statuses).map(([status, count]) => `${count} ${status}`).join(", "), duration(row.seconds), duration(row.median), `${((100 * row.seconds) / total).toFixed(0)} %`,
        h("div", { class: "bar" }, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "c-in", fill: "currentColor", width: (100 * row.seconds) / total, height: 10 })))])),
    table([{ text: "agent", left: true }, { text: "proposals" }, { text: "submissions" }, ...data.gates.map((gate) => ({ text: gate })), { text: "in all" }, ...spent.map((what) => ({ text: what.replace("_", " ") }))],
      data.cost.agents.map((row) => [row.agent, String(row.proposals), String(row.submissions), ...data.gates.map((gate) => (row.seconds[gate] === undefined ? "–" : duration(row.seconds[gate]))),
        duration(Object.values(row.seconds).reduce((a, b) => a + b, 0)), ...spent.map((what) => (row.spent[what] === undefined ? "–" : String(Number(row.spent[what].toFixed(4)))))])));
}

function all(data) {
  const place = h("div");
  const search = h("input", { type: "search", placeholder: "id, name, author, state, words", "aria-label": "filter proposals", value: filter, oninput: (event) => { filter = event.target.value; fillIn(); } });
  function fillIn() {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...data.proposals].reverse().filter((row) => { const text = `${row.id} ${row.name} ${row.author} ${row.state} ${WORDS[row.state]} ${row.hypothesis}`.toLowerCase(); return words.every((word) => text.includes(word)); });
    const more = rows.length > ROWS ? h("p", { class: "note" }, `The latest ${ROWS} of ${rows.length}; a filter finds the others.`) : "";
    place.replaceChildren(more, table([{ text: "proposal", left: true }, { text: "round", left: true }, { text: "flow", left: true }, { text: "author", left: true }, { text: "state", left: true }, { text: "gain, nat" }, { text: "× full" }, { text: "parents", left: true }, { text: "hypothesis", left: true }],
      rows.slice(0, ROWS).map((row) => [jump(row.id), label(row.round), row.name, row.author, mark(row.state), interval(row.measured.gain, signed, 3), interval(row.measured.ratio, fixed, 2), row.parents.flatMap((id, index) => (index ? [", ", jump(id)] : [jump(id)])), { kind: "words", cell: row.hypothesis }])));
  }
  fillIn();
  return section(`All ${data.proposals.length} proposals`, "long", search, place);
}

function draw(data) {
  const busy = data.proposals.filter((row) => row.state === "measuring").length, on = data.points.filter((point) => point.state === "in").length;
  const began = data.proposals.length ? Date.parse(data.proposals[0].at) : null;
  const latest = Math.max(began || 0, ...data.proposals.flatMap((row) => [Date.parse(row.at), ...Object.values(row.gates).map((gate) => Date.parse(gate.at))]));
  line.textContent = [`${data.proposals.length} proposals`, `${data.points.length} measured to the end`, `${on} on the frontier`, busy ? `${busy} waiting or at work` : "nothing waits",
    began ? `${duration((latest - began) / 1000)} from the first proposal to the last verdict` : ""].filter(Boolean).join(" · ");
  document.title = plain(`Vortex: ${data.study}`);
  const kept = window.scrollY, scrolled = [...page.querySelectorAll(".tall, .scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  const focusable = () => [...page.querySelectorAll("button, input, [tabindex]")], focused = focusable().indexOf(document.activeElement);
  const workload = data.settings.workload || {};
  page.replaceChildren(...[roundNow(data), frontierNow(data), ...charted(data), family(data), confirmations(data), failures(data), cost(data),
    section("Settings", "", h("dl", { class: "columns" }, Object.entries({ ...data.settings, ...workload }).filter(([, value]) => typeof value !== "object").flatMap(([name, value]) => [h("dt", null, name.replaceAll("_", " ")), h("dd", null, String(value))]))), all(data)].filter(Boolean));
  [...page.querySelectorAll(".tall, .scroll")].forEach((one, index) => { if (scrolled[index]) [one.scrollLeft, one.scrollTop] = scrolled[index]; });
  if (!scrolled.length) for (const one of page.querySelectorAll("svg.tree")) one.parentElement.scrollLeft = one.parentElement.scrollWidth; // the latest rounds
  if (focused >= 0) focusable()[focused]?.focus({ preventScroll: true });
  window.scrollTo(0, kept);
}

async function refresh() {
  try {
    if (study === null || !select.options.length) await studies();
    if (study !== null) {
      const [data, version] = await get("/api/study", { study }, tag ? { "If-None-Match": tag } : {});
      tag = version;
      if (data) last = data;
      if (last && drawnFor !== version && Date.now() - typed > PAUSE) { drawnFor = version; draw(last); await again(); }
    }
    link.textContent = "live";
    link.classList.remove("lost");
  } catch (error) {
    link.textContent = error.said ? plain(error.message) : "vortex ui does not answer; the page shows what it knew";
    link.classList.add("lost");
  }
}

async function studies() {
  const [{ studies: found }] = await get("/api/studies", {});
  select.replaceChildren(...found.map((one) => h("option", { value: one.name }, `${one.name} (${one.proposals})`)));
  if (study === null) study = asked().get("study") || (found.length ? found[0].name : null);
  if (study === null) line.textContent = "the ledger has no study yet: vortex discover begins one";
  else select.value = study;
}

// An open proposal is shown anew when a gate has spoken of it.
const spoken = (id) => JSON.stringify(last?.proposals.find((row) => row.id === id)?.gates);
let shown = null;
async function again() {
  const id = Number(asked().get("proposal"));
  if (box.open && shown !== null && shown !== spoken(id)) await follow();
}

async function follow() {
  const wanted = asked();
  if (wanted.get("study") && wanted.get("study") !== study) {
    [study, tag, last, drawnFor, chosenRound] = [wanted.get("study"), null, null, null, null];
    page.replaceChildren();
    select.value = study;
    await refresh();
  }
  const id = wanted.get("proposal");
  if (id === null) { if (box.open) box.close(); return; }
  try {
    const [data] = await get("/api/proposal", { study, id });
    shown = spoken(data.id);
    show(data, last?.proposals.find((row) => row.id === data.id)?.state, open, close);
  } catch (error) {
    link.textContent = plain(error.message);
    close();
  }
}

select.addEventListener("change", () => go({ study: select.value, proposal: null }));
box.addEventListener("close", () => { if (asked().has("proposal")) close(); });
box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
window.addEventListener("hashchange", follow);
await refresh();
await follow();
setInterval(refresh, EVERY);
