// Cases that end in sets, rests, values of the pages of a set and of groups, states and parameters.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "op_builder.h"

namespace vortex::codegen {

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

}  // namespace vortex::codegen
