// seq_tokens: length of the sequence in tokens.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_seq_tokens() {
  OpDef op = source_op("seq_tokens", "Tokens of the sequence, the one being decoded included.", Phase::score);
  op.of_sequence = true;
  op.infer = [](const InferContext&) { return Type{.domain = {Domain::Kind::row}, .axes = {}}; };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    out.data[0] = static_cast<double>(context.environment.tokens);
  };
  return op;
}

}  // namespace vortex::ir
