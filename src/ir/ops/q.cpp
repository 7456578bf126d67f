// q: the queries of a row.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_q() {
  OpDef op = source_op("q",
                       "The query heads that share this KV head, after QK-norm and RoPE, multiplied by the softmax "
                       "scale: `dot(q, k, over=\"dim\")` is the logit.",
                       Phase::score);
  op.infer = [](const InferContext&) {
    return Type{.domain = {Domain::Kind::row},
                .axes = {{"head", {Extent::Symbol::head}}, {"dim", {Extent::Symbol::dim}}}};
  };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) { out.data = context.q->data; };
  return op;
}

}  // namespace vortex::ir
