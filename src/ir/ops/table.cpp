// The table of ops: one row an op, in the order of the reference page.
#include <vortex/error.h>

#include "base/text.h"
#include "ir/op.h"

// clang-format off
#define VORTEX_IR_OPS(X) \
  /* sources */ \
  X(q) \
  X(page_k) \
  X(page_v) \
  X(page_index) \
  X(page_tokens) \
  X(group_k) \
  X(group_v) \
  X(group_index) \
  X(seq_pages) \
  X(seq_tokens) \
  X(seq_step) \
  X(seq_left) \
  X(layer_index) \
  X(layer_count) \
  X(layer_scale) \
  X(constant) \
  X(summary) \
  X(param) \
  X(page_state) \
  X(seq_state) \
  /* elementwise */ \
  X(add) \
  X(sub) \
  X(mul) \
  X(div) \
  X(maximum) \
  X(minimum) \
  X(neg) \
  X(abs) \
  X(exp) \
  X(log) \
  X(sqrt) \
  X(rsqrt) \
  X(relu) \
  X(tanh) \
  X(sigmoid) \
  X(silu) \
  X(floor) \
  X(clamp) \
  X(where) \
  X(less) \
  X(less_equal) \
  X(greater) \
  X(greater_equal) \
  X(equal) \
  X(pow) \
  X(random) \
  /* reductions */ \
  X(sum) \
  X(mean) \
  X(max) \
  X(min) \
  X(norm) \
  X(logsumexp) \
  /* along an axis */ \
  X(softmax) \
  X(normalize) \
  X(cumsum) \
  /* contraction */ \
  X(dot) \
  /* sets of pages */ \
  X(top_k) \
  X(approx_top_k) \
  X(top_p) \
  X(threshold) \
  X(first) \
  X(last) \
  X(either) \
  X(both) \
  X(members) \
  /* between domains */ \
  X(confine) \
  X(spread) \
  X(shift) \
  /* shape */ \
  X(split) \
  X(merge) \
  X(rename) \
  X(slice) \
  X(low_frequency) \
  X(nope) \
  X(rope)
// clang-format on

namespace vortex::ir {

#define VORTEX_DECLARE(name) OpDef define_##name();
VORTEX_IR_OPS(VORTEX_DECLARE)
#undef VORTEX_DECLARE

namespace {

struct Table {
  std::vector<OpDef> ops;
  std::vector<const OpDef*> pointers;
  std::map<std::string, const OpDef*, std::less<>> by_name;

  Table() {
#define VORTEX_ROW(name) ops.push_back(define_##name());
    VORTEX_IR_OPS(VORTEX_ROW)
#undef VORTEX_ROW
    for (const OpDef& op : ops) {
      pointers.push_back(&op);
      by_name[op.name] = &op;
    }
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

std::span<const OpDef* const> all_ops() { return table().pointers; }

const OpDef* find_op(std::string_view name) {
  auto found = table().by_name.find(name);
  return found == table().by_name.end() ? nullptr : found->second;
}

const OpDef& op_named(std::string_view name) {
  if (const OpDef* op = find_op(name)) return *op;
  std::vector<std::string> known;
  for (const OpDef* op : all_ops()) known.push_back(op->name);
  std::string near = nearest_name(name, known);
  throw UserError("", "an op of the language", concat('"', name.substr(0, 80), '"'),
                  near.empty() ? "docs/ops.md lists the ops" : concat("did you mean \"", near, "\"?"));
}

const char* name_of(OpKind kind) {
  switch (kind) {
    case OpKind::source:
      return "source";
    case OpKind::elementwise:
      return "elementwise";
    case OpKind::reduction:
      return "reduction";
    case OpKind::along:
      return "along";
    case OpKind::contraction:
      return "contraction";
    case OpKind::shape:
      return "shape";
    case OpKind::selection:
      return "selection";
    case OpKind::list:
      return "list";
    case OpKind::domain:
      return "domain";
  }
  return "?";
}

}  // namespace vortex::ir
