#include "op_cases.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "base/text.h"

namespace vortex::codegen {

namespace {

using ir::Attributes;
using ir::ValueId;

// Builds a program; `k` in summaries, `q`, row and page values in scores.
class Builder {
 public:
  ir::Program program;

  Builder() { program.config.budget = 8; }

  ValueId make(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return ir::append(program, ir::op_named(op), std::move(inputs), std::move(attributes), {"case.py", 1});
  }
  ValueId over(const std::string& op, ValueId x, const std::string& axis) { return make(op, {x}, {{"axis", axis}}); }
  ValueId dot(ValueId a, ValueId b, const std::string& axis) { return make("dot", {a, b}, {{"over", axis}}); }
  ValueId number(double value) { return make("constant", {}, {{"value", value}}); }
  ValueId k() { return make("page_k", {}); }
  ValueId v() { return make("page_v", {}); }
  ValueId q() { return make("q", {}); }
  void declare(const std::string& name, ValueId value) { ir::declare_summary(program, name, value, {"case.py", 1}); }
  ValueId read(const std::string& name) { return make("summary", {}, {{"name", name}}); }
  // A summary of the keys: [dim] @page.
  ValueId mean() {
    if (!has_mean_) declare("mean", over("mean", k(), "token"));
    has_mean_ = true;
    return read("mean");
  }
  ValueId keys() {
    declare("keys", k());
    return read("keys");
  }
  ValueId logits() { return dot(q(), mean(), "dim"); }  // [head] @page
  ValueId group_logits() {                              // [head] @group(4)
    declare("group", over("mean", make("group_k", {}, {{"size", std::int64_t{4}}}), "token"));
    return dot(q(), read("group"), "dim");
  }
  ValueId set_logits() {  // [head], of the pages of a set
    ValueId list = make("members", {make("last", {make("page_index", {}), number(20), make("seq_pages", {})})});
    return dot(q(), make("confine", {mean(), list}), "dim");
  }
  ValueId spread(ValueId value) { return make("spread", {value}, {{"other", 0.5}}); }
  // Ends the program with a score: all axes summed.
  ir::Program score(ValueId value) {
    while (!program.node(value).type.axes.empty())
      value = over("sum", value, program.node(value).type.axes.back().name);
    if (program.node(value).type.domain.kind != ir::Domain::Kind::page)
      value = make("mul", {value, make("page_index", {})});
    program.score = value;
    return program;
  }

 private:
  bool has_mean_ = false;
};

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

// Sets: of scores that are made in each kind of stage, joined, read by later scores, and beside a rest.
void add_sets(std::vector<OpCase>& out) {
  auto add = [&](const std::string& op, const std::string& where, auto make) {
    Builder b;
    b.program.selection = make(b);
    out.push_back({op + ", " + where, op, b.program});
  };
  auto ranked = [](Builder& b) { return b.over("sum", b.logits(), "head"); };
  auto shared = [](Builder& b) { return b.over("sum", b.over("softmax", b.logits(), "page"), "head"); };
  auto left = [](Builder& b) { return b.make("seq_left", {}); };
  add("top_k", "of a page stage", [&](Builder& b) { return b.make("top_k", {ranked(b), b.number(5.5)}); });
  add("top_k", "of a finish", [&](Builder& b) {
    return b.make("top_k", {b.over("cumsum", shared(b), "page"), left(b)});
  });
  add("top_k", "of a source", [&](Builder& b) {
    return b.make("either", {b.make("top_k", {b.make("page_index", {}), left(b)}),
                             b.make("top_k", {b.make("neg", {b.make("page_index", {})}), b.number(3)})});
  });
  add("top_k", "by a number of the row", [&](Builder& b) {
    return b.make("top_k", {shared(b), b.make("mul", {b.make("seq_pages", {}), b.number(0.25)})});
  });
  add("top_k", "of more than there are", [&](Builder& b) { return b.make("top_k", {ranked(b), b.number(1e9)}); });
  add("approx_top_k", "exact", [&](Builder& b) { return b.make("approx_top_k", {ranked(b), b.number(7)}); });
  add("top_p", "of shares", [&](Builder& b) { return b.make("top_p", {shared(b), b.number(0.6)}); });
  add("top_p", "with numbers below zero", [&](Builder& b) { return b.make("top_p", {ranked(b), b.number(0.3)}); });
  add("threshold", "of a row", [&](Builder& b) {
    return b.make("threshold", {ranked(b), b.over("mean", ranked(b), "page")});
  });
  add("first", "of the sequence", [&](Builder& b) { return b.make("first", {b.make("page_index", {}), b.number(6)}); });
  add("last", "of the sequence", [&](Builder& b) {
    return b.make("last", {b.make("page_index", {}), b.number(6), b.make("seq_pages", {})});
  });
  add("either", "of two streams", [&](Builder& b) {
    ValueId norm = b.over("norm", b.mean(), "dim");
    return b.make("either", {b.make("top_k", {shared(b), b.number(4)}), b.make("top_k", {norm, b.number(4)})});
  });
  add("both", "of two streams", [&](Builder& b) {
    ValueId norm = b.over("norm", b.mean(), "dim");
    return b.make("both", {b.make("top_k", {shared(b), b.number(20)}), b.make("top_k", {norm, b.number(20)})});
  });
  add("where", "of a set", [&](Builder& b) {  // the best by keys, and among them the best by softmax
    ValueId coarse = b.make("top_k", {b.over("norm", b.mean(), "dim"), b.number(12)});
    ValueId fine = b.make("where", {coarse, shared(b), b.number(-INFINITY)});
    return b.make("both", {coarse, b.make("top_k", {b.over("softmax", fine, "page"), b.number(5)})});
  });
  auto rest = [&](const std::string& where, ValueId (*value)(Builder&), bool set) {
    Builder b;
    b.declare("value", b.over("mean", b.v(), "token"));
    if (set)
      b.program.selection = b.make("top_p", {shared(b), b.number(0.5)});
    else
      b.program.score = shared(b);
    b.program.rest_logit = b.make("add", {b.logits(), b.number(2.5)});
    b.program.rest_value = value(b);
    out.push_back({"rest, " + where, "dot", b.program});
  };
  rest(
      "of a score", [](Builder& b) { return b.read("value"); }, false);
  rest(
      "of a set", [](Builder& b) { return b.read("value"); }, true);
  rest(
      "of a computed value",
      [](Builder& b) {
        return b.make("mul", {b.read("value"), b.number(0.5)});
      },
      false);
}

// Values of the pages of a set, of groups, and from one to another; each flow ends in a set.
void add_domains(std::vector<OpCase>& out) {
  auto add = [&](const std::string& op, const std::string& where, auto make) {
    Builder b;
    b.program.selection = make(b);
    out.push_back({op + ", " + where, op, b.program});
  };
  auto shares = [](Builder& b, ValueId logits) { return b.over("sum", b.over("softmax", logits, "page"), "head"); };
  auto norms = [](Builder& b) { return b.over("norm", b.mean(), "dim"); };
  auto members = [](Builder& b, ValueId set) { return b.make("members", {set}); };
  auto confined = [](Builder& b, ValueId x, ValueId list) { return b.make("confine", {x, list}); };
  auto best = [](Builder& b, ValueId x, double k) { return b.make("top_k", {x, b.number(k)}); };
  auto size = [](std::int64_t pages) { return Attributes{{"size", pages}}; };
  add("members", "a summary read for a set alone", [&](Builder& b) {
    ValueId list = members(b, best(b, norms(b), 12));
    return best(b, shares(b, b.dot(b.q(), confined(b, b.mean(), list), "dim")), 5);
  });
  add("confine", "a value that is at hand", [&](Builder& b) {
    ValueId all = shares(b, b.logits()), list = members(b, b.make("top_p", {all, b.number(0.5)}));
    ValueId there = confined(b, all, list);
    ValueId above = b.make("sub", {there, b.over("mean", there, "page")});
    return best(b, b.over("cumsum", above, "page"), 4);
  });
  add("confine", "a set inside a set", [&](Builder& b) {
    ValueId first = members(b, best(b, norms(b), 20));
    ValueId coarse = b.over("sum", b.dot(b.q(), confined(b, b.mean(), first), "dim"), "head");
    ValueId second = members(b, best(b, coarse, 9));
    ValueId there = b.make("add", {confined(b, coarse, second), confined(b, b.make("page_index", {}), second)});
    ValueId fine = b.make("mul", {there, b.over("sum", confined(b, confined(b, b.mean(), first), second), "dim")});
    return best(b, b.make("sub", {fine, b.over("max", fine, "page")}), 3);
  });
  add("confine", "elementwise sets", [&](Builder& b) {
    ValueId set = b.make("either", {b.make("first", {b.make("page_index", {}), b.number(9)}),
                                    b.make("threshold", {norms(b), b.over("mean", norms(b), "page")})});
    return best(b, shares(b, b.dot(b.q(), confined(b, b.mean(), members(b, set)), "dim")), 6);
  });
  add("confine", "a set as a condition", [&](Builder& b) {
    ValueId list = members(b, best(b, norms(b), 15)), other = best(b, b.over("max", b.mean(), "dim"), 15);
    ValueId fine = confined(b, b.over("sum", b.logits(), "head"), list);
    return best(b, b.make("where", {confined(b, other, list), fine, b.make("neg", {fine})}), 5);
  });
  add("spread", "of a set", [&](Builder& b) {
    ValueId list = members(b, best(b, norms(b), 12));
    ValueId fine = shares(b, b.dot(b.q(), confined(b, b.mean(), list), "dim"));
    return best(b, b.make("add", {b.make("spread", {fine}, {{"other", -0.5}}), norms(b)}), 8);
  });
  auto group_mean = [](Builder& b, std::int64_t pages) {
    const std::string name = concat("group", pages);
    if (std::none_of(b.program.summaries.begin(), b.program.summaries.end(),
                     [&](const ir::Summary& summary) { return summary.name == name; }))
      b.declare(name, b.over("mean", b.make("group_k", {}, {{"size", pages}}), "token"));
    return b.read(name);
  };
  add("group_k", "groups, then their pages", [&](Builder& b) {
    ValueId groups = best(b, shares(b, b.dot(b.q(), group_mean(b, 4), "dim")), 4);
    ValueId list = members(b, b.make("spread", {groups}, {{"other", 1.0}}));
    return best(b, shares(b, b.dot(b.q(), confined(b, b.mean(), list), "dim")), 6);
  });
  add("group_v", "a number of groups on their pages", [&](Builder& b) {
    b.declare("size", b.over("max", b.over("norm", b.make("group_v", {}, size(3)), "dim"), "token"));
    return best(b, b.make("mul", {norms(b), b.make("spread", {b.read("size")}, {{"other", 2.0}})}), 7);
  });
  add("group_index", "groups by their place", [&](Builder& b) {
    ValueId score = b.make(
        "add", {b.over("sum", b.dot(b.q(), group_mean(b, 2), "dim"), "head"), b.make("group_index", {}, size(2))});
    return b.make("spread", {b.make("top_k", {score, b.make("seq_left", {})})}, {{"other", 0.0}});
  });
  add("spread", "groups of groups", [&](Builder& b) {
    ValueId large = best(b, shares(b, b.dot(b.q(), group_mean(b, 8), "dim")), 3);
    ValueId list = members(b, b.make("spread", {large}, {{"other", 1.0}, {"size", std::int64_t{2}}}));
    ValueId small = shares(b, b.dot(b.q(), confined(b, group_mean(b, 2), list), "dim"));
    ValueId pages = b.make("spread", {best(b, small, 5)}, {{"other", 1.0}});
    return best(b, shares(b, b.dot(b.q(), confined(b, b.mean(), members(b, pages)), "dim")), 6);
  });
  add("confine", "logits, kept as they come", [&](Builder& b) {
    ValueId list = members(b, best(b, norms(b), 20));
    return best(b, shares(b, confined(b, b.logits(), list)), 6);
  });
  add("spread", "logits of groups, kept as they come", [&](Builder& b) {
    ValueId logits = b.make("spread", {b.dot(b.q(), group_mean(b, 2), "dim")}, {{"other", 0.0}});
    return best(b, b.over("sum", b.make("shift", {logits}, {{"by", std::int64_t{1}}}), "head"), 9);
  });
  // Scores that groups have a part in.
  auto add_score = [&](const std::string& op, const std::string& where, auto make) {
    Builder b;
    out.push_back({op + ", " + where, op, b.score(make(b))});
  };
  const Attributes none = {{"other", 0.25}};
  add_score("group_k", "shares among groups and among pages", [&](Builder& b) {
    ValueId group = shares(b, b.dot(b.q(), group_mean(b, 4), "dim"));
    return b.make("add", {b.make("spread", {group}, none), shares(b, b.logits())});
  });
  add_score("group_v", "the largest value of a group", [&](Builder& b) {
    b.declare("size", b.over("max", b.over("norm", b.make("group_v", {}, size(3)), "dim"), "token"));
    return b.make("mul", {norms(b), b.make("spread", {b.read("size")}, none)});
  });
  add_score("group_index", "groups by their place, and the channels of their means", [&](Builder& b) {
    ValueId channels = b.make("add", {group_mean(b, 2), b.make("group_index", {}, size(2))});
    return b.dot(b.q(), b.make("spread", {channels}, none), "dim");
  });
  add_score("spread", "groups of eight to groups of two to pages, and the page before", [&](Builder& b) {
    ValueId large = b.over("cumsum", shares(b, b.dot(b.q(), group_mean(b, 8), "dim")), "page");
    ValueId small = b.make("spread", {large}, {{"other", 0.5}, {"size", std::int64_t{2}}});
    ValueId both = b.make("mul", {small, b.over("sum", group_mean(b, 2), "dim")});
    ValueId pages = b.make("spread", {b.make("sub", {both, b.over("max", both, "page")})}, none);
    return b.make("sub", {pages, b.make("shift", {pages}, {{"by", std::int64_t{1}}})});
  });
  Builder score;  // a score of the pages of a set, beside a rest
  score.declare("value", score.over("mean", score.v(), "token"));
  ValueId list = members(score, best(score, norms(score), 14));
  score.program.score = shares(score, score.dot(score.q(), confined(score, score.mean(), list), "dim"));
  out.push_back({"confine, a score", "confine", score.program});
  score.program.rest_logit = score.logits();
  score.program.rest_value = score.read("value");
  out.push_back({"confine, a score beside a rest", "confine", score.program});
}

// softmax over "page", summed over the heads.
ir::Program shares(Builder& b, ValueId logits) { return b.score(b.over("softmax", logits, "page")); }

}  // namespace

// State of pages and of the row, read and set in every kind of stage.
void add_states(std::vector<OpCase>& out) {
  for (const std::string op : {"page_state", "seq_state"})
    for (const std::string axes : {"", "head", "head, dim", "lane=3"}) {
      Builder b;
      const ValueId state = b.make(op, {}, {{"name", "a"}, {"initial", 0.5}, {"axes", axes}});
      const ValueId shares = b.make("softmax", {b.logits()}, {{"axis", "page"}});
      const ValueId whole =
          op == "page_state" ? b.over("sum", shares, "head") : b.over("max", b.over("sum", shares, "head"), "page");
      ir::declare_state(b.program, "a", b.make("add", {b.make("mul", {state, b.number(0.5)}), whole}), {"case.py", 2});
      out.push_back({op + " [" + axes + "]", op, b.score(b.make("mul", {state, b.over("sum", b.mean(), "dim")}))});
    }
  Builder b;  // from one state to another, and from the row to its pages
  const ValueId row = b.make("seq_state", {}, {{"name", "row"}, {"axes", std::string("head")}});
  const ValueId page = b.make("page_state", {}, {{"name", "page"}, {"axes", std::string("head")}});
  ir::declare_state(b.program, "page", row, {"case.py", 2});
  ir::declare_state(b.program, "row", b.over("max", b.q(), "dim"), {"case.py", 2});
  out.push_back({"page_state of the row", "page_state", b.score(b.make("add", {page, b.logits()}))});
}

// A page that the last step chose counts half as much again: a set has a part in the state that has a part in it.
void add_held(std::vector<OpCase>& out) {
  Builder b;
  const ValueId held = b.make("page_state", {}, {{"name", "held"}});
  const ValueId share = b.over("sum", b.over("softmax", b.logits(), "page"), "head");
  const ValueId weight = b.make("add", {b.number(1.0), b.make("mul", {b.number(0.5), held})});
  b.program.selection = b.make("top_k", {b.make("mul", {share, weight}), b.make("seq_left", {})});
  ir::declare_state(b.program, "held", b.make("where", {b.program.selection, b.number(1.0), b.number(0.0)}),
                    {"case.py", 2});
  out.push_back({"page_state, whether the last step chose the page", "page_state", b.program});
}

// Parameters in every kind of stage: what is projected to few channels, and numbers of the row and of the page.
void add_parameters(std::vector<OpCase>& out) {
  auto matrix = [](Builder& b, const char* name) {
    return b.make("param", {}, {{"name", name}, {"axes", std::string("dim, low=6")}});
  };
  {
    Builder b;
    b.declare("low", b.dot(b.over("mean", b.k(), "token"), matrix(b, "wk"), "dim"));
    ValueId logit = b.dot(b.dot(b.q(), matrix(b, "wq"), "dim"), b.read("low"), "low");
    out.push_back({"param, queries and means of keys in few channels", "param", shares(b, logit)});
  }
  {
    Builder b;
    b.declare("low", b.dot(b.k(), matrix(b, "wk"), "dim"));
    ValueId logit = b.over("max", b.dot(b.dot(b.q(), matrix(b, "wq"), "dim"), b.read("low"), "low"), "token");
    out.push_back({"param, every key in few channels", "param", shares(b, logit)});
  }
  {
    Builder b;
    const Attributes scale = {{"name", std::string("scale")}, {"axes", std::string("head")}};
    ValueId one = b.make("param", {}, {{"name", std::string("shift")}});
    ValueId logit = b.make("mul", {b.logits(), b.make("param", {}, scale)});
    out.push_back({"param, a number for each query head and for all", "param", b.score(b.make("add", {logit, one}))});
  }
  {
    Builder b;
    const Attributes weight = {{"name", std::string("weight")}, {"axes", std::string("lane=3, dim")}};
    ValueId high = b.over("max", b.make("mul", {b.mean(), b.make("param", {}, weight)}), "dim");
    out.push_back({"param, the largest weighed channel", "param", b.score(high)});
  }
}

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
