// top_p: the fewest best pages that hold a share of the whole.
#include <algorithm>
#include <numeric>

#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_top_p() {
  OpDef op =
      selection_op("top_p",
                   "The fewest pages of the largest a whose sum is at least b times the sum of all candidates; numbers "
                   "below zero and NaN count as 0, ties go to the lower index. Made for weights, as a softmax over "
                   "\"page\" gives them.");
  op.choose = [](std::span<const double> values, double share, const Attributes&, std::span<double> out) {
    auto weight = [&](std::size_t i) { return values[i] > 0.0 ? values[i] : 0.0; };
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return weight(a) > weight(b); });
    double total = 0.0, sum = 0.0;
    for (std::size_t i : order) total += weight(i);
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t i : order) {
      if (!(sum < share * total)) break;
      sum += weight(i);
      out[i] = 1.0;
    }
  };
  op.amount = Amount::share;
  return op;
}

}  // namespace vortex::ir
