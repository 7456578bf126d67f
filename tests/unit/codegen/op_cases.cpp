#include "op_cases.h"

#include <map>
#include <random>

#include "op_builder.h"

namespace vortex::codegen {

namespace {

Attributes attributes_of(const std::string& op) {
  if (op == "clamp") return {{"low", -0.5}, {"high", 0.75}};
  return {};
}

void add_elementwise(std::vector<OpCase>& out, const ir::OpDef& op) {
  auto add = [&](const std::string& where, const ir::Program& program) {
    out.push_back({op.name + ", " + where, op.name, program});
  };
  if (op.name == "random") {  // its operands must be exact numbers
    Builder b;
    add("page and row", b.score(b.make("random", {b.make("page_index", {}), b.make("seq_step", {})})));
    Builder c;
    add("row", c.score(c.make("random", {c.make("layer_index", {}), c.make("seq_step", {})})));
    return;
  }
  auto operands = [&](Builder& b, ValueId x, ValueId y, ValueId z) {
    if (op.name == "div") y = b.make("exp", {y});  // a divisor near zero would measure the operands' rounding
    std::vector<ValueId> all{x, y, z};
    all.resize(static_cast<std::size_t>(op.arity));
    return all;
  };
  auto tame = [&](Builder& b, ValueId x) { return op.name == "rsqrt" ? b.make("exp", {x}) : x; };  // likewise
  const Attributes attributes = attributes_of(op.name);
  {
    Builder b;  // [head] @page with itself shifted and with a row value
    ValueId x = b.logits(), y = b.make("sub", {b.over("sum", b.q(), "dim"), x});
    add("page and page", b.score(b.make(op.name, operands(b, x, y, b.make("neg", {x})), attributes)));
    add("page and row", [&] {
      Builder c;
      ValueId page = c.logits(), row = c.over("mean", c.q(), "dim");
      return c.score(c.make(op.name, operands(c, page, row, c.number(0.25)), attributes));
    }());
  }
  if (op.arity > 1) {
    Builder b;  // the row first
    ValueId page = b.logits(), row = b.over("mean", b.q(), "dim");
    add("row and page", b.score(b.make(op.name, operands(b, row, page, row), attributes)));
  }
  {
    Builder b;  // [dim] @page as lanes, and [head, dim] by broadcasting
    ValueId x = b.mean(), y = b.q();
    ValueId value = b.make(op.name, operands(b, x, y, b.number(1.5)), attributes);
    add("page over dim", b.score(b.make("mul", {value, b.q()})));
  }
  {
    Builder b;
    ValueId row = b.make(op.name, operands(b, b.q(), b.over("max", b.q(), "dim"), b.number(2)), attributes);
    add("row", b.score(b.dot(row, b.mean(), "dim")));
  }
  {
    Builder b;
    ValueId number =
        b.make(op.name, operands(b, b.make("layer_index", {}), b.make("layer_scale", {}), b.number(0.5)), attributes);
    add("layer", b.score(b.make("mul", {number, b.logits()})));
    Builder c;
    ValueId group = c.make(
        op.name, operands(c, tame(c, c.group_logits()), c.over("mean", c.q(), "dim"), c.number(0.25)), attributes);
    add("group", c.score(c.spread(group)));
    Builder d;
    ValueId there =
        d.make(op.name, operands(d, tame(d, d.set_logits()), d.over("mean", d.q(), "dim"), d.number(0.25)), attributes);
    add("set", d.score(d.spread(there)));
  }
  {
    Builder b;
    ValueId value = b.make(op.name, operands(b, b.k(), b.v(), b.over("mean", b.k(), "dim")), attributes);
    b.declare("s", b.over("mean", value, "token"));
    add("summary", b.score(b.dot(b.q(), b.read("s"), "dim")));
  }
}

void add_axis(std::vector<OpCase>& out, const ir::OpDef& op) {
  // A sum near zero under a division would measure the operands' rounding.
  auto over = [&](Builder& b, ValueId x, const std::string& axis) {
    return b.over(op.name, op.name == "normalize" ? b.make("exp", {x}) : x, axis);
  };
  auto add = [&](const std::string& where, const ir::Program& program) {
    out.push_back({op.name + ", " + where, op.name, program});
  };
  for (std::string axis : {"token", "dim"}) {
    Builder b;
    b.declare("s", over(b, b.k(), axis));
    ValueId s = b.read("s");
    add("summary over " + axis, b.score(axis == "dim" ? s : b.make("mul", {b.q(), s})));
    Builder c;
    add("page over " + axis, c.score(over(c, c.make("mul", {c.keys(), c.number(0.5)}), axis)));
  }
  {
    Builder b;
    add("page over head", b.score(b.make("mul", {over(b, b.logits(), "head"), b.logits()})));
    Builder c;
    add("row over dim", c.score(c.make("mul", {over(c, c.q(), "dim"), c.logits()})));
    Builder d;
    add("row over head", d.score(d.dot(over(d, d.q(), "head"), d.mean(), "dim")));
  }
  {
    Builder b;  // over the candidates, and work after it
    ValueId x = b.logits();
    add("over page", b.score(b.make("mul", {over(b, x, "page"), b.make("add", {x, b.number(1)})})));
    Builder c;  // twice, with page work between that stays in one finish
    ValueId y = c.logits();
    ValueId centred = c.make("exp", {c.make("sub", {y, c.over("max", y, "page")})});
    add("over page, twice", c.score(c.make("add", {over(c, centred, "page"), y})));
    Builder e;  // over groups, and over the pages of a set
    ValueId group = e.group_logits();
    add("over groups", e.score(e.spread(e.make("mul", {over(e, group, "page"), group}))));
    Builder f;
    ValueId there = f.set_logits();
    add("over a set", f.score(f.spread(f.make("mul", {over(f, there, "page"), there}))));
    Builder g;
    add("group over head",
        g.score(g.spread(g.make("mul", {over(g, g.group_logits(), "head"), g.over("sum", g.q(), "dim")}))));
    Builder d;  // the whole summary as lanes
    add("over page and dim", d.score(d.make("mul", {over(d, d.mean(), "page"), d.mean()})));
  }
}

void add_contractions(std::vector<OpCase>& out) {
  auto add = [&](const std::string& where, const ir::Program& program) {
    out.push_back({"dot, " + where, "dot", program});
  };
  Builder a;
  add("row and summary", a.score(a.logits()));
  Builder b;
  add("summary and row", b.score(b.dot(b.mean(), b.q(), "dim")));
  Builder c;
  add("row and summary of two axes", c.score(c.over("max", c.dot(c.q(), c.keys(), "dim"), "token")));
  Builder d;  // over token: not contiguous in the arena
  ValueId weight = d.make("rename", {d.over("sum", d.q(), "head")}, {{"axis", "dim"}, {"to", "other"}});
  ValueId keys = d.keys();
  add("over token", d.score(d.make("mul", {d.dot(keys, keys, "token"), d.over("sum", weight, "other")})));
  Builder e;
  add("page and page", e.score(e.dot(e.mean(), e.make("exp", {e.mean()}), "dim")));
  Builder f;
  add("row and row", f.score(f.make("mul", {f.dot(f.q(), f.q(), "dim"), f.logits()})));
  Builder g;
  g.declare("s", g.dot(g.k(), g.v(), "token"));
  add("summary", g.score(g.dot(g.q(), g.read("s"), "dim")));
  Builder i;  // over "page", of a value that is made a sweep earlier than the other
  ValueId logits = i.logits();
  ValueId early = i.make("exp", {i.make("sub", {logits, i.over("max", logits, "page")})});
  ValueId late = i.make("sub", {early, i.over("mean", early, "page")});
  add("over page, of two sweeps", i.score(i.make("mul", {i.dot(early, late, "page"), logits})));
  Builder h;
  add("over head", h.score(h.dot(h.logits(), h.over("sum", h.q(), "dim"), "head")));
}

void add_shapes(std::vector<OpCase>& out) {
  auto add = [&](const std::string& op, const std::string& where, const ir::Program& program) {
    out.push_back({op + ", " + where, op, program});
  };
  {
    Builder b;  // half-page centroids: two vectors a page, streamed
    ValueId split = b.make("split", {b.k()}, {{"axis", "token"}, {"name", "sub"}, {"size", std::int64_t{2}}});
    b.declare("s", b.over("mean", split, "sub"));
    add("split", "summary", b.score(b.over("max", b.dot(b.q(), b.read("s"), "dim"), "token")));
  }
  {
    Builder b;  // channels cut in two on the row and on the page
    const Attributes halves = {{"axis", "dim"}, {"name", "part"}, {"size", std::int64_t{4}}};
    ValueId q = b.make("split", {b.q()}, halves), mean = b.make("split", {b.mean()}, halves);
    ValueId parts = b.dot(q, mean, "part");
    add("split", "row and page", b.score(b.over("max", parts, "dim")));
    Builder c;
    ValueId split = c.make("split", {c.mean()}, halves);
    ValueId merged = c.make("merge", {c.make("exp", {split})}, {{"axis", "dim"}, {"inner", "part"}});
    add("merge", "page", c.score(c.dot(c.q(), merged, "dim")));
    Builder d;  // the inner axis stands before the outer one, so elements must move
    ValueId cut = d.make("split", {d.mean()}, {{"axis", "dim"}, {"name", "part"}, {"size", std::int64_t{4}}});
    ValueId again = d.make("merge", {cut}, {{"axis", "part"}, {"inner", "dim"}});
    ValueId row = d.make("rename", {d.q()}, {{"axis", "dim"}, {"to", "part"}});
    add("merge", "moved", d.score(d.dot(row, again, "part")));
  }
  {
    Builder b;
    const Attributes cut = {{"axis", "dim"}, {"start", std::int64_t{3}}, {"stop", std::int64_t{9}}};
    add("slice", "row and page",
        b.score(b.dot(b.make("slice", {b.q()}, cut), b.make("slice", {b.mean()}, cut), "dim")));
    Builder c;
    c.declare("s", c.over("max", c.make("slice", {c.k()}, cut), "token"));
    add("slice", "summary", c.score(c.make("exp", {c.read("s")})));
  }
  {
    Builder b;
    const Attributes slow = {{"axis", "dim"}, {"share", 0.25}};
    add("low_frequency", "row and page",
        b.score(b.dot(b.make("low_frequency", {b.q()}, slow), b.make("low_frequency", {b.mean()}, slow), "dim")));
    Builder c;
    c.declare("s", c.over("max", c.make("low_frequency", {c.k()}, slow), "token"));
    add("low_frequency", "summary", c.score(c.over("max", c.make("exp", {c.read("s")}), "dim")));
  }
  {
    Builder b;
    const Attributes before = {{"by", std::int64_t{1}}}, after = {{"by", std::int64_t{-2}}, {"other", 0.5}};
    ValueId logit = b.dot(b.q(), b.mean(), "dim");
    add("shift", "computed", b.score(b.make("add", {logit, b.make("shift", {logit}, before)})));
    Builder c;
    add("shift", "as stored", c.score(c.dot(c.q(), c.make("shift", {c.mean()}, after), "dim")));
    Builder d;
    ValueId share = d.over("softmax", d.dot(d.q(), d.mean(), "dim"), "page");
    add("shift", "of a share, twice", d.score(d.make("shift", {d.make("shift", {share}, after)}, before)));
  }
  {
    Builder b;
    add("nope", "row and page", b.score(b.dot(b.make("nope", {b.q()}), b.make("nope", {b.mean()}), "dim")));
    Builder c;
    c.declare("s", c.over("max", c.make("nope", {c.k()}), "token"));
    add("nope", "summary", c.score(c.over("max", c.make("exp", {c.read("s")}), "dim")));
  }
  {
    Builder b;
    add("rope", "row and page", b.score(b.dot(b.make("rope", {b.q()}), b.make("rope", {b.mean()}), "dim")));
    Builder c;
    c.declare("s", c.over("max", c.make("rope", {c.k()}), "token"));
    add("rope", "summary", c.score(c.over("max", c.make("exp", {c.read("s")}), "dim")));
  }
  {
    Builder b;
    const Attributes name = {{"axis", "dim"}, {"to", "channel"}};
    ValueId q = b.make("rename", {b.q()}, name), mean = b.make("rename", {b.mean()}, name);
    add("rename", "row and page", b.score(b.dot(q, mean, "channel")));
    Builder c;  // "a…" sorts before "dim" and after "head"; "token" renamed to sort elsewhere
    ValueId keys = c.make("rename", {c.keys()}, {{"axis", "token"}, {"to", "zeta"}});
    add("rename", "two axes", c.score(c.over("logsumexp", c.dot(c.q(), keys, "dim"), "zeta")));
  }
}

void add_sources(std::vector<OpCase>& out) {
  for (std::string op : {"seq_pages", "seq_tokens", "seq_step", "layer_index", "layer_count", "layer_scale"}) {
    Builder b;
    out.push_back({op, op, b.score(b.make("mul", {b.make(op, {}), b.make("page_index", {})}))});
  }
  Builder b;
  out.push_back({"page_index", "page_index", b.score(b.make("mul", {b.make("page_index", {}), b.number(-1)}))});
  Builder c;
  out.push_back({"constant", "constant", c.score(c.make("add", {c.logits(), c.number(3.5)}))});
  Builder d;
  out.push_back({"q", "q", d.score(d.make("add", {d.logits(), d.q()}))});
  Builder e;
  e.declare("s", e.over("mean", e.v(), "token"));
  out.push_back({"page_v", "page_v", e.score(e.dot(e.q(), e.read("s"), "dim"))});
  Builder f;
  out.push_back({"page_k", "page_k", f.score(f.logits())});
  Builder h;  // what the budget leaves is known to the row
  out.push_back({"seq_left", "seq_left", h.score(h.make("mul", {h.logits(), h.make("seq_left", {})}))});
  Builder i;
  out.push_back({"page_tokens", "page_tokens", i.score(i.make("div", {i.logits(), i.make("page_tokens", {})}))});
  Builder g;
  out.push_back({"summary", "summary", g.score(g.mean())});
}

}  // namespace

ir::Program with_numbers(ir::Program program, const ir::Geometry& geometry) {
  ir::Parameters tensors;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const std::map<std::string, std::vector<std::int64_t>> declared = {{"dim, low=6", {geometry.head_dim, 6}},
                                                                     {"head", {geometry.group}},
                                                                     {"", {}},
                                                                     {"lane=3, dim", {3, geometry.head_dim}}};
  for (const ir::Node* node : ir::parameters_of(program)) {
    ir::Parameter tensor{{30, 2}, {}};
    std::int64_t elements = 60;
    for (std::int64_t size : declared.at(ir::text_of(node->attributes, "axes"))) {
      tensor.shape.push_back(size);
      elements *= size;
    }
    for (std::int64_t i = 0; i < elements; ++i) tensor.data.push_back(normal(random));
    tensors[ir::text_of(node->attributes, "name")] = std::move(tensor);
  }
  return tensors.empty() ? program : ir::attach_weights(std::move(program), tensors);
}

std::vector<OpCase> op_cases() {
  std::vector<OpCase> out;
  for (const ir::OpDef* op : ir::all_ops()) {
    if (op->name == "threshold" || op->name == "first" || op->name == "last" || op->takes_sets) continue;
    if (op->kind == ir::OpKind::elementwise) add_elementwise(out, *op);
    if (op->kind == ir::OpKind::reduction || op->kind == ir::OpKind::along) add_axis(out, *op);
  }
  add_contractions(out);
  add_shapes(out);
  add_sources(out);
  add_sets(out);
  add_states(out);
  add_held(out);
  add_domains(out);
  add_parameters(out);
  return out;
}

ir::Program centroid_flow() {
  Builder b;
  b.program.name = "Centroid";
  return shares(b, b.logits());
}

ir::Program quest_flow() {
  Builder b;
  b.program.name = "Quest";
  b.declare("lo", b.over("min", b.k(), "token"));
  b.declare("hi", b.over("max", b.k(), "token"));
  ValueId q = b.q();
  ValueId bound = b.make("maximum", {b.make("mul", {q, b.read("lo")}), b.make("mul", {q, b.read("hi")})});
  return shares(b, b.over("sum", bound, "dim"));
}

ir::Program deviation_flow() {
  Builder b;
  b.program.name = "Deviation";
  ValueId mean = b.over("mean", b.k(), "token");
  ValueId away = b.make("sub", {b.k(), mean});
  b.declare("mean", mean);
  b.declare("var", b.over("mean", b.make("mul", {away, away}), "token"));
  ValueId q = b.q();
  ValueId spread = b.over("sum", b.make("mul", {b.make("mul", {q, q}), b.read("var")}), "dim");
  return shares(b, b.make("add", {b.dot(q, b.read("mean"), "dim"), b.make("sqrt", {spread})}));
}

ir::Program oracle_flow() {
  Builder b;
  b.program.name = "Oracle";
  ValueId keys = b.keys();
  return shares(b, b.over("logsumexp", b.dot(b.q(), keys, "dim"), "token"));
}

ir::Program random_flow() {
  Builder b;
  b.program.name = "Random";
  return b.score(b.make("random", {b.make("page_index", {}), b.make("seq_step", {})}));
}

}  // namespace vortex::codegen
