// One proposal: why, what, how it differs from its parents, what the gates said, what each item and block gave.
import { bytes, duration, fixed, h, signed, table } from "/dom.js";
import { strip } from "/charts.js";
import { mark } from "/marks.js";

const box = document.getElementById("details");

export function show(data, state, open, close) {
  const jump = (id) => h("button", { class: "link", onclick: () => open(id) }, String(id));
  const list = (ids) => (ids.length ? ids.flatMap((id, index) => (index ? [", ", jump(id)] : [jump(id)])) : "none");
  const isIr = data.source.trimStart().startsWith("vortex_ir");
  box.replaceChildren(h("div", null,
    h("header", null, h("h2", null, `Proposal ${data.id}: ${data.name || "no flow"}`), h("button", { onclick: close }, "close")),
    state ? mark(state) : "",
    h("dl", null,
      h("dt", null, "hypothesis"), h("dd", null, data.hypothesis || "none"),
      h("dt", null, "author"), h("dd", null, data.author),
      h("dt", null, "proposed"), h("dd", null, data.at.slice(0, 19).replace("T", " "), " UTC"),
      h("dt", null, "parents"), h("dd", null, list(data.parents)),
      h("dt", null, "children"), h("dd", null, list(data.children)),
      data.doc ? [h("dt", null, "it says"), h("dd", null, data.doc)] : null,
      data.hash ? [h("dt", null, "hash"), h("dd", null, `${data.hash}, IR version ${data.ir_version}`)] : null,
      data.config ? [h("dt", null, "settings"), h("dd", null, data.config)] : null,
      Object.keys(data.handed_in).length ? [h("dt", null, "handed in with"), h("dd", null, JSON.stringify(data.handed_in))] : null),
    h("h3", null, "Gates"),
    table([{ text: "gate", left: true }, { text: "", left: true }, { text: "took" }, { text: "why", left: true }],
      data.verdicts.map((one) => [one.gate, mark(one.status), duration(one.seconds), { kind: "words", cell: one.reason }])),
    price(data.price),
    data.differences.map((one) => h("details", { open: true }, h("summary", null, `What differs from proposal ${one.parent} (${one.name})`),
      difference(one.ir), one.code.length ? difference(one.code) : null)),
    results(data.runs),
    isIr ? null : h("details", { open: !data.differences.length }, h("summary", null, "Code"), h("pre", null, data.source)),
    data.ir ? h("details", { open: isIr && !data.differences.length }, h("summary", null, "IR"), h("pre", null, data.ir)) : null,
  ));
  if (!box.open) box.showModal();
}

function difference(lines) {
  const kind = { "+": "add", "-": "gone", " ": null };
  if (!lines.some(([sign]) => sign !== " ")) return h("p", { class: "note" }, "no line differs");
  return h("pre", null, lines.map(([sign, line]) => h("span", { class: kind[sign] }, `${sign === "-" ? "−" : sign} ${line}`)));
}

function price(facts) {
  if (facts.attend_bytes === undefined) return null;
  const share = facts.kv_bytes_per_page ? ` (${((100 * facts.summary_bytes_per_page) / facts.kv_bytes_per_page).toFixed(1)} % of the page)` : "";
  return [h("h3", null, "Price of a decode step, from the IR alone"), h("dl", null,
    h("dt", null, "to score"), h("dd", null, bytes(facts.score_bytes)),
    h("dt", null, "to attend"), h("dd", null, bytes(facts.attend_bytes)),
    h("dt", null, "summaries"), h("dd", null, `${facts.summary_bytes_per_page} bytes a page and KV head${share}`),
    h("dt", null, "bytes say"), h("dd", null, `${fixed(facts.step_speedup, 2)} times full attention's speed at most`))];
}

function results(runs) {
  const gain = (item) => (item.flow && item.full && typeof item.flow.log_probability === "number" && typeof item.full.log_probability === "number" ? item.flow.log_probability - item.full.log_probability : null);
  const gains = runs.map((run) => ({ name: run.gate, values: run.items.filter((item) => gain(item) !== null).map((item) => ({ value: gain(item), words: `${item.item}: ${signed(gain(item), 3)} nat` })) })).filter((group) => group.values.length);
  const ratios = runs.map((run) => ({ name: run.gate, values: run.ratios.map((ratio, index) => ({ value: ratio, words: `round ${index}: ${fixed(ratio, 3)} times` })) })).filter((group) => group.values.length);
  return [
    gains.length ? [h("h3", null, "Results by item"), strip("gain by item", gains, "log-probability of the answer beside full attention, nat a token", 0)] : null,
    ratios.length ? [h("h3", null, "Results by block"), strip("speed by block", ratios, "times full attention's speed, a dot for each round of full, flow, flow, full", 1)] : null,
    runs.filter((run) => run.items.length).map((run) => h("details", null, h("summary", null, `Items of ${run.gate}, run ${run.run.slice(0, 10)}`),
      run.retracted ? h("p", { class: "note" }, `retracted: ${run.retracted}`) : null,
      table([{ text: "item", left: true }, { text: "full, nat" }, { text: "flow, nat" }, { text: "gain" }, { text: "KL" }, { text: "exact: full" }, { text: "flow" }],
        run.items.map((item) => [item.item, fixed(item.full?.log_probability, 3), fixed(item.flow?.log_probability, 3), signed(gain(item), 3), fixed(item.flow?.kl, 4), yes(item.full?.exact), yes(item.flow?.exact)])))),
  ];
}

const yes = (value) => (value === undefined ? "–" : value ? "yes" : "no");
