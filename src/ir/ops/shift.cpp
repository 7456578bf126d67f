// shift: what stands some pages before or after.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_shift() {
  OpDef op;
  op.name = op.tile = "shift";
  op.doc =
      "The value of the candidate `by` places before this one (of a negative `by`: after it), and `other` where there "
      "is none. A convolution over pages is a sum of shifts.";
  op.kind = OpKind::domain;
  op.arity = 1;
  op.phase = Phase::score;
  op.attributes = {{.name = "by", .kind = AttributeKind::integer, .doc = "places, from the earlier to the later page"},
                   {.name = "other", .required = false, .fallback = 0.0, .doc = "the number beyond the ends"}};
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    if (out.domain.kind != Domain::Kind::page)
      throw UserError("", "shift runs over the candidates of a row, so it takes a value of pages", print(out),
                      out.domain.has_instances() ? "spread it over pages first" : "use it as it is");
    if (const std::int64_t by = integer_of(context.attributes, "by"); by < -kMaxExtent || by > kMaxExtent)
      throw UserError("", concat("shift goes at most ", kMaxExtent, " places"), concat("by=", by), "say shift(1)");
    return out;
  };
  return op;
}

}  // namespace vortex::ir
