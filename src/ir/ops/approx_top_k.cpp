// approx_top_k: the best pages by number, or nearly.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_approx_top_k() {
  OpDef op = selection_op(
      "approx_top_k",
      "As top_k, where a backend may miss a share 1 − recall of the pages if that is quicker. The CPU takes "
      "the exact ones.");
  op.attributes = {{.name = "recall",
                    .required = false,
                    .fallback = 0.95,
                    .doc = "the share of top_k that is found at least, above 0 and up to 1"}};
  op.tile = "top_k";
  op.infer = [](const InferContext& context) {
    const double recall = number_of(context.attributes, "recall");
    if (!(recall > 0.0 && recall <= 1.0))
      throw UserError("", "recall is a share above 0 and up to 1", print_number(recall), "say recall=0.95");
    return infer_selection(context);
  };
  op.ranks = true;
  op.choose = choose_top_k;
  op.amount = Amount::pages;
  return op;
}

}  // namespace vortex::ir
