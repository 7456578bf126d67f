// Pieces shared by the tile files, compiled once for each instruction set.
#if defined(VORTEX_TILE_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef VORTEX_TILE_LANES_INL_H
#undef VORTEX_TILE_LANES_INL_H
#else
#define VORTEX_TILE_LANES_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/tile/tile.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels::tile::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, 16>;
using BitsTag = hn::RebindToUnsigned<FloatTag>;
using Floats = hn::VFromD<FloatTag>;
inline constexpr std::int64_t kWidth = static_cast<std::int64_t>(hn::MaxLanes(FloatTag()));

// Stores the first `count` lanes and nothing else.
HWY_INLINE void store_lanes(Floats values, float* out, std::int64_t count) {
  const FloatTag d;
  if (count >= kWidth) {
    hn::StoreU(values, d, out);
  } else {
    HWY_ALIGN float buffer[kWidth];
    hn::Store(values, d, buffer);
    for (std::int64_t lane = 0; lane < count; ++lane) out[lane] = buffer[lane];
  }
}

// The larger and the smaller one; a NaN yields to the other operand.
HWY_INLINE Floats larger(Floats a, Floats b) {
  return hn::IfThenElse(hn::IsNaN(a), b, hn::IfThenElse(hn::IsNaN(b), a, hn::Max(a, b)));
}
HWY_INLINE Floats smaller(Floats a, Floats b) {
  return hn::IfThenElse(hn::IsNaN(a), b, hn::IfThenElse(hn::IsNaN(b), a, hn::Min(a, b)));
}

// One run of an operand, readable kWidth lanes at a time whatever its lane stride: contiguous runs stay where they are,
// others are spread into `buffer`, kBlock lanes at a time.
inline constexpr std::int64_t kBlock = 256;
class Run {
 public:
  HWY_INLINE Run(const float* data, std::int64_t lane_stride, float* buffer)
      : data_(data), stride_(lane_stride), buffer_(buffer), step_(lane_stride == 0 ? 0 : 1) {
    if (lane_stride == 0)
      for (std::int64_t i = 0; i < kWidth; ++i) buffer[i] = data[0];
  }
  // Prepares lanes [begin, begin + count), count <= kBlock; at() counts from `begin`.
  HWY_INLINE void seek(std::int64_t begin, std::int64_t count) {
    if (stride_ == 1) {
      current_ = data_ + begin;
    } else {
      current_ = buffer_;
      if (stride_ > 1)
        for (std::int64_t i = 0; i < count; ++i) buffer_[i] = data_[(begin + i) * stride_];
    }
  }
  HWY_INLINE Floats at(std::int64_t lane) const { return hn::LoadU(FloatTag(), current_ + lane * step_); }

 private:
  const float* data_;
  std::int64_t stride_;
  float* buffer_;
  std::int64_t step_;
  const float* current_ = nullptr;
};

// Calls body(offsets of the operands) for every position of the outer loops, the last loop fastest.
template <int Operands, class Body>
HWY_INLINE void for_each_position(const Nest& nest, const std::int64_t* const (&strides)[Operands], const Body& body) {
  std::int64_t index[kMaxRank] = {};
  std::int64_t offset[Operands] = {};
  for (int r = 0; r < nest.rank; ++r)
    if (nest.extent[r] == 0) return;
  for (;;) {
    body(offset);
    int r = nest.rank - 1;
    for (; r >= 0; --r) {
      for (int o = 0; o < Operands; ++o) offset[o] += strides[o][r];
      if (++index[r] < nest.extent[r]) break;
      for (int o = 0; o < Operands; ++o) offset[o] -= strides[o][r] * nest.extent[r];
      index[r] = 0;
    }
    if (r < 0) return;
  }
}

}  // namespace vortex::kernels::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
