// seq_left: what the budget leaves to choose.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_seq_left() {
  OpDef op = source_op("seq_left", "Pages that the budget leaves to choose, after the pinned ones.", Phase::score);
  op.nonnegative = true;
  op.infer = [](const InferContext&) { return Type{.domain = {Domain::Kind::row}, .axes = {}}; };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    out.data[0] = static_cast<double>(context.environment.left);
  };
  return op;
}

}  // namespace vortex::ir
