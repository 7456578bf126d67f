// page_v: the values of a full page. A model may have fewer channels in a value than in a key, so their "dim" is of
// another size: a flow that joins channels of both fits only models where they are as many.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_page_v() {
  OpDef op = source_op("page_v", "Values of a page. In `summarize` only.", Phase::summarize);
  op.infer = [](const InferContext&) {
    return Type{.domain = {Domain::Kind::page},
                .axes = {{"token", {Extent::Symbol::token}}, {"dim", {Extent::Symbol::value_dim}}}};
  };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) { out.data = context.v->data; };
  return op;
}

}  // namespace vortex::ir
