// seq_step: how many decode steps the sequence has made.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_seq_step() {
  OpDef op = source_op("seq_step", "Decode steps this sequence has made before this one.", Phase::score);
  op.of_sequence = true;
  op.infer = [](const InferContext&) { return Type{.domain = {Domain::Kind::row}, .axes = {}}; };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    out.data[0] = static_cast<double>(context.environment.step);
  };
  return op;
}

}  // namespace vortex::ir
