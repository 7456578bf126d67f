// The Quest flow built through append, shared by the tests of this room.
#pragma once

#include "ir/op.h"

namespace vortex::ir {

inline Program quest() {
  Program p;
  p.name = "Quest";
  p.doc = "An upper bound of q·k over each page.";
  p.config.budget = 32;
  auto add = [&](const char* op, std::vector<ValueId> inputs, Attributes attributes, int line) {
    return append(p, op_named(op), std::move(inputs), std::move(attributes), {"quest.py", line});
  };
  ValueId k = add("page_k", {}, {}, 8);
  ValueId lo = add("min", {k}, {{"axis", "token"}}, 8);
  ValueId hi = add("max", {k}, {{"axis", "token"}}, 9);
  declare_summary(p, "lo", lo, {"quest.py", 8});
  declare_summary(p, "hi", hi, {"quest.py", 9});
  ValueId q = add("q", {}, {}, 12);
  ValueId a = add("mul", {q, add("summary", {}, {{"name", "lo"}}, 12)}, {}, 12);
  ValueId b = add("mul", {q, add("summary", {}, {{"name", "hi"}}, 12)}, {}, 12);
  ValueId bound = add("sum", {add("maximum", {a, b}, {}, 12)}, {{"axis", "dim"}}, 12);
  ValueId share = add("softmax", {bound}, {{"axis", "page"}}, 13);
  p.score = add("sum", {share}, {{"axis", "head"}}, 13);
  return p;
}

}  // namespace vortex::ir
