// seq_pages: length of the sequence in pages.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_seq_pages() {
  OpDef op = source_op("seq_pages", "Pages of the sequence, the open one included.", Phase::score);
  op.of_sequence = true;
  op.infer = [](const InferContext&) { return Type{.domain = {Domain::Kind::row}, .axes = {}}; };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    const Environment& e = context.environment;
    out.data[0] = static_cast<double>((e.tokens + e.geometry.page_size - 1) / e.geometry.page_size);
  };
  return op;
}

}  // namespace vortex::ir
