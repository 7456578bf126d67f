// Sets of pages from one number a page. Plain C++: the work is a selection, not arithmetic.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/tile/tile.h"

namespace vortex::kernels::tile {

namespace {

struct Ranked {
  float value;
  std::int32_t index;
};

bool better(const Ranked& a, const Ranked& b) { return a.value != b.value ? a.value > b.value : a.index < b.index; }

}  // namespace

std::optional<Choice> find_choice(std::string_view name) {
  if (name == "top_k") return Choice::top_k;
  if (name == "top_p") return Choice::top_p;
  return std::nullopt;
}

void choose(Choice choice, const float* values, std::int64_t count, float amount, float* out) {
  thread_local std::vector<Ranked> ranked;
  std::fill(out, out + count, 0.0f);
  ranked.resize(static_cast<std::size_t>(count));
  const bool by_number = choice == Choice::top_k;
  // NaN ranks last, behind −inf; as a weight it counts nothing.
  std::size_t numbers = 0, last = ranked.size();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::int32_t>(i);
    if (!by_number)
      ranked[numbers++] = {values[i] > 0.0f ? values[i] : 0.0f, index};
    else if (std::isnan(values[i]))
      ranked[--last] = {0.0f, index};
    else
      ranked[numbers++] = {values[i], index};
  }
  if (by_number) {
    std::reverse(ranked.begin() + static_cast<std::ptrdiff_t>(numbers), ranked.end());  // by index again
    std::size_t k = 0;
    if (amount >= 1.0f) k = amount >= static_cast<float>(count) ? ranked.size() : static_cast<std::size_t>(amount);
    if (k < numbers)
      std::nth_element(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(k),
                       ranked.begin() + static_cast<std::ptrdiff_t>(numbers), better);
    for (std::size_t i = 0; i < k; ++i) out[ranked[i].index] = 1.0f;
    return;
  }
  std::sort(ranked.begin(), ranked.end(), better);
  double total = 0.0, sum = 0.0;
  for (const Ranked& one : ranked) total += one.value;
  for (const Ranked& one : ranked) {
    if (!(sum < static_cast<double>(amount) * total)) break;
    sum += one.value;
    out[one.index] = 1.0f;
  }
}

}  // namespace vortex::kernels::tile
