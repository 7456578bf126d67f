#include "attention/cpu/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/cpu/convert.cpp"
// The order of these matters.
// clang-format off
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace vortex::attention {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::ScalableTag<std::uint32_t>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;

constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(DF()));

void store_bfloat16(const float* HWY_RESTRICT from, BFloat16* HWY_RESTRICT to, std::int64_t count) {
  const DU d;
  const hn::Rebind<std::uint16_t, DU> d16;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const VU bits = hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(from) + i);
    const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
    const VU rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(d, 0x7fffu)), odd));
    const VU quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d, 0x40u));
    const auto is_nan = hn::Gt(hn::And(bits, hn::Set(d, 0x7fffffffu)), hn::Set(d, 0x7f800000u));
    const VU result = hn::IfThenElse(is_nan, quiet, rounded);
    const hn::RebindToSigned<DU> di;
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, result)), d16, reinterpret_cast<std::uint16_t*>(to) + i);
  }
  for (; i < count; ++i) to[i] = to_bfloat16(from[i]);
}

void store_int8(const float* HWY_RESTRICT from, std::int8_t* HWY_RESTRICT to, float* scale, std::int64_t count) {
  const DF d;
  const hn::Rebind<std::int8_t, DF> d8;
  const VF infinity = hn::Set(d, HUGE_VALF);
  VF largest = hn::Zero(d);
  auto finite = hn::Eq(largest, largest);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const VF x = hn::Abs(hn::LoadU(d, from + i));
    finite = hn::And(finite, hn::Lt(x, infinity));
    largest = hn::Max(largest, x);
  }
  bool numbers = hn::AllTrue(d, finite);
  float top = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < count; ++i) {
    numbers = numbers && std::isfinite(from[i]);
    top = std::max(top, std::fabs(from[i]));
  }
  const bool zeros = !numbers || top < 1e-30f;
  *scale = !numbers ? std::nanf("") : zeros ? 0.0f : top / 127.0f;
  const float factor = zeros ? 0.0f : 127.0f / top;
  for (i = 0; numbers && i + kLanes <= count; i += kLanes)
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(hn::Mul(hn::LoadU(d, from + i), hn::Set(d, factor)))), d8, to + i);
  for (; i < count; ++i) to[i] = numbers ? static_cast<std::int8_t>(std::nearbyint(from[i] * factor)) : std::int8_t{0};
}

void load_int8(const std::int8_t* HWY_RESTRICT from, float scale, BFloat16* HWY_RESTRICT to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = to_bfloat16(scale * static_cast<float>(from[i]));
}

}  // namespace HWY_NAMESPACE
}  // namespace vortex::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vortex::attention {

HWY_EXPORT(store_bfloat16);
HWY_EXPORT(store_int8);
HWY_EXPORT(load_int8);

void store_bfloat16(const float* from, BFloat16* to, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(store_bfloat16)(from, to, count);
}
void store_int8(const float* from, std::int8_t* to, float* scale, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(store_int8)(from, to, scale, count);
}
void load_int8(const std::int8_t* from, float scale, BFloat16* to, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(load_int8)(from, scale, to, count);
}

}  // namespace vortex::attention
#endif
