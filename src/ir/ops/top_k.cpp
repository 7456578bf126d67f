// top_k: the best pages by number.
#include <algorithm>
#include <numeric>

#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_top_k() {
  OpDef op =
      selection_op("top_k",
                   "The b pages of the largest a, b rounded down; ties go to the lower index, NaN ranks below every "
                   "number. Without b: what the budget leaves after the pinned pages, `seq.left`.");
  op.ranks = true;
  op.choose = choose_top_k;
  op.amount = Amount::pages;
  return op;
}

void choose_top_k(std::span<const double> values, double amount, const Attributes&, std::span<double> out) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::isnan(values[b]) ? !std::isnan(values[a]) : values[a] > values[b];
  });
  std::fill(out.begin(), out.end(), 0.0);
  for (std::size_t i = 0; i < order.size() && static_cast<double>(i + 1) <= amount; ++i) out[order[i]] = 1.0;
}

}  // namespace vortex::ir
