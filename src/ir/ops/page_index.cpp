// page_index: where a page stands in its sequence.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_page_index() {
  OpDef op = source_op("page_index", "Logical index of the page in its sequence, from 0.", Phase::score);
  op.infer = [](const InferContext&) { return Type{.domain = {Domain::Kind::page}, .axes = {}}; };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    for (std::size_t i = 0; i < out.data.size(); ++i) out.data[i] = static_cast<double>((*context.page_indices)[i]);
  };
  return op;
}

}  // namespace vortex::ir
