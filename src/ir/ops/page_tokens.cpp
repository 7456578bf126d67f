// page_tokens: the size of a page.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_page_tokens() {
  OpDef op = source_op("page_tokens", "Tokens of a full page: the flow's page_size. A number once the flow is bound.",
                       Phase::any);
  op.of_sequence = true;
  op.nonnegative = true;
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    out.data[0] = static_cast<double>(context.environment.geometry.page_size);
  };
  return op;
}

}  // namespace vortex::ir
