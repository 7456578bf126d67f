// Summaries between their arenas and tiles: candidates become lanes, bf16 becomes float32 and back.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile/gather.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/tile/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels::tile::HWY_NAMESPACE {

HWY_INLINE float widened(std::uint16_t bf16) {
  const std::uint32_t bits = std::uint32_t{bf16} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
HWY_INLINE float widened(float value) { return value; }

#if HWY_TARGET != HWY_SCALAR
// Elements e … e + 7 of four candidates, transposed.
HWY_INLINE void gather_block(const std::uint16_t* const* vectors, float* out, std::int64_t out_stride) {
  const hn::Full128<std::uint32_t> d;
  const hn::Full128<std::uint64_t> wide;
  const hn::Full128<std::uint16_t> narrow;
  const hn::Full128<float> real;
  hn::VFromD<decltype(d)> row[4];
  for (int p = 0; p < 4; ++p) row[p] = hn::BitCast(d, hn::LoadU(narrow, vectors[p]));
  const auto ab0 = hn::BitCast(wide, hn::InterleaveLower(d, row[0], row[1]));
  const auto ab1 = hn::BitCast(wide, hn::InterleaveUpper(d, row[0], row[1]));
  const auto ce0 = hn::BitCast(wide, hn::InterleaveLower(d, row[2], row[3]));
  const auto ce1 = hn::BitCast(wide, hn::InterleaveUpper(d, row[2], row[3]));
  const hn::VFromD<decltype(d)> pair[4] = {
      hn::BitCast(d, hn::InterleaveLower(wide, ab0, ce0)), hn::BitCast(d, hn::InterleaveUpper(wide, ab0, ce0)),
      hn::BitCast(d, hn::InterleaveLower(wide, ab1, ce1)), hn::BitCast(d, hn::InterleaveUpper(wide, ab1, ce1))};
  for (int i = 0; i < 4; ++i) {
    hn::StoreU(hn::BitCast(real, hn::ShiftLeft<16>(pair[i])), real, out + 2 * i * out_stride);
    hn::StoreU(hn::BitCast(real, hn::And(pair[i], hn::Set(d, 0xffff0000u))), real, out + (2 * i + 1) * out_stride);
  }
}
#endif

template <class Element>
void gather_all(const Arena& arena, std::int64_t elements, float* out, std::int64_t out_stride) {
  const Element* base = static_cast<const Element*>(arena.base);
  const std::int64_t end = (arena.count + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t begin = 0; begin < end; begin += 4) {
    const Element* vectors[4];
    for (int p = 0; p < 4; ++p)
      vectors[p] = base + arena.pages[HWY_MIN(begin + p, arena.count - 1)] * arena.page_stride;
    std::int64_t e = 0;
#if HWY_TARGET != HWY_SCALAR
    if constexpr (sizeof(Element) == 2) {
      for (; e + 8 <= elements; e += 8) {
        const Element* const block[4] = {vectors[0] + e, vectors[1] + e, vectors[2] + e, vectors[3] + e};
        gather_block(block, out + e * out_stride + begin, out_stride);
      }
    }
#endif
    for (; e < elements; ++e)
      for (int p = 0; p < 4; ++p) out[e * out_stride + begin + p] = widened(vectors[p][e]);
  }
}

void run_gather(const Arena& arena, std::int64_t elements, float* out, std::int64_t out_stride) {
  if (arena.storage == Storage::bf16) {
    gather_all<std::uint16_t>(arena, elements, out, out_stride);
  } else {
    gather_all<float>(arena, elements, out, out_stride);
  }
}

void run_widen(const std::uint16_t* bf16, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = widened(bf16[i]);
}

}  // namespace vortex::kernels::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "base/float16.h"

namespace vortex::kernels::tile {

HWY_EXPORT(run_gather);
HWY_EXPORT(run_widen);

void gather(const Arena& arena, std::int64_t elements, float* out, std::int64_t out_stride) {
  if (arena.count <= 0) return;
  HWY_DYNAMIC_DISPATCH(run_gather)(arena, elements, out, out_stride);
}

void widen(const std::uint16_t* bf16, std::int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(run_widen)(bf16, count, out);
}

void narrow(const float* values, std::int64_t count, std::uint16_t* bf16) {
  for (std::int64_t i = 0; i < count; ++i) bf16[i] = to_bfloat16(values[i]).bits;
}

}  // namespace vortex::kernels::tile
#endif
