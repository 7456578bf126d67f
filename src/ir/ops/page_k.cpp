// page_k: the keys of a full page.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_page_k() {
  OpDef op = source_op(
      "page_k",
      "Keys of a page as attention sees them, after QK-norm and RoPE. On MLA the fused latent. In `summarize` only.",
      Phase::summarize);
  op.infer = [](const InferContext&) {
    return Type{.domain = {Domain::Kind::page},
                .axes = {{"token", {Extent::Symbol::token}}, {"dim", {Extent::Symbol::dim}}}};
  };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) { out.data = context.k->data; };
  return op;
}

}  // namespace vortex::ir
