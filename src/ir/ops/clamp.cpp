// clamp: a kept between two constants.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_clamp() {
  OpDef op = elementwise_op("clamp", 1, "min(max(a, low), high); low for NaN.");
  op.attributes = {{.name = "low", .kind = AttributeKind::number, .doc = "the smallest result"},
                   {.name = "high", .kind = AttributeKind::number, .doc = "the largest result, not below low"}};
  op.infer = [](const InferContext& context) {
    double low = number_of(context.attributes, "low"), high = number_of(context.attributes, "high");
    if (!(low <= high))
      throw UserError("", "clamp needs low <= high", concat("low ", low, ", high ", high), "swap them");
    return infer_elementwise(context);
  };
  op.scalar = [](Operands x, const Attributes& attributes) {
    return std::fmin(std::fmax(x[0], number_of(attributes, "low")), number_of(attributes, "high"));
  };
  op.cuda = "fminf(fmaxf($0, $low), $high)";
  return op;
}

}  // namespace vortex::ir
