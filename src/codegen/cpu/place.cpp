#include "codegen/cpu/place.h"

#include <algorithm>
#include <array>

namespace vortex::codegen {

std::int64_t place_scratch(Instructions& code, const std::vector<std::int64_t>& sizes) {
  struct Life {
    std::int64_t first = -1, last = -1, place = 0;
  };
  std::vector<Life> lives(sizes.size());
  auto operands = [](Instruction& instruction) {
    return std::array<Operand*, 4>{&instruction.a, &instruction.b, &instruction.c, &instruction.out};
  };
  for (std::size_t i = 0; i < code.size(); ++i) {
    for (Operand* operand : operands(code[i])) {
      if (operand->buffer < 0) continue;
      Life& life = lives[static_cast<std::size_t>(operand->buffer)];
      if (life.first < 0) life.first = static_cast<std::int64_t>(i);
      life.last = static_cast<std::int64_t>(i);
    }
  }
  // First fit in order of birth: below, beside or between the buffers that live at the same time.
  std::vector<std::size_t> order;
  for (std::size_t b = 0; b < lives.size(); ++b)
    if (lives[b].first >= 0) order.push_back(b);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lives[a].first < lives[b].first; });
  std::int64_t total = 0;
  std::vector<std::size_t> placed;
  for (std::size_t b : order) {
    std::vector<std::pair<std::int64_t, std::int64_t>> taken;
    for (std::size_t other : placed)
      if (lives[other].last >= lives[b].first)
        taken.emplace_back(lives[other].place, lives[other].place + sizes[other]);
    std::sort(taken.begin(), taken.end());
    std::int64_t place = 0;
    for (const auto& [begin, end] : taken) {
      if (place + sizes[b] <= begin) break;
      place = std::max(place, end);
    }
    lives[b].place = place;
    total = std::max(total, place + sizes[b]);
    placed.push_back(b);
  }
  for (Instruction& instruction : code)
    for (Operand* operand : operands(instruction))
      if (operand->buffer >= 0) operand->offset += lives[static_cast<std::size_t>(operand->buffer)].place;
  return total;
}

}  // namespace vortex::codegen
