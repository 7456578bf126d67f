#include "attention/cpu/select.h"

#include <algorithm>
#include <bit>

namespace vortex::attention {

namespace {

// An unsigned key that orders as the scores do; both zeros are equal, every NaN is 0.
std::uint32_t key_of(float score) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score + 0.0f);
  const std::uint32_t key = bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
  return (bits & 0x7fffffffu) > 0x7f800000u ? 0u : key;
}

}  // namespace

void select_top(const float* scores, std::int64_t count, std::int64_t k, std::int32_t first, std::int32_t* out,
                std::uint32_t* keys) {
  if (k <= 0) return;
  if (k >= count) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = first + static_cast<std::int32_t>(i);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) keys[i] = key_of(scores[i]);
  // The k-th largest key, a byte at a time from the top: `rank` keys are wanted among those that begin with `prefix`.
  std::uint32_t prefix = 0;
  std::int64_t rank = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    const std::uint32_t mask = shift == 24 ? 0u : 0xffffffffu << (shift + 8);
    std::int32_t histogram[256] = {};
    for (std::int64_t i = 0; i < count; ++i) histogram[(keys[i] >> shift) & 255u] += (keys[i] & mask) == prefix;
    std::uint32_t digit = 255;
    while (histogram[digit] < rank) rank -= histogram[digit--];
    prefix |= digit << shift;
    if (histogram[digit] == rank) {  // all keys of this digit are taken: the lower bytes do not matter
      const std::uint32_t low = prefix;
      for (std::int64_t i = 0; i < count; ++i) {
        *out = first + static_cast<std::int32_t>(i);
        out += keys[i] >= low;
        if (keys[i] >= low && --k == 0) return;
      }
    }
  }
  for (std::int64_t i = 0; k > 0; ++i) {
    const bool tie = keys[i] == prefix && rank > 0;
    rank -= tie;
    if (keys[i] > prefix || tie) {
      *out++ = first + static_cast<std::int32_t>(i);
      --k;
    }
  }
}

}  // namespace vortex::attention
