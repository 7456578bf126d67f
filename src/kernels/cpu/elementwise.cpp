// Compiled once per instruction set by Highway, which also chooses at run time.
#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
// The order of these matters.
// clang-format off
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Wide = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

// Calls body(tag, i) over [0, count): whole vectors first, then single lanes.
template <class Body>
HWY_INLINE void for_each_vector(std::size_t count, Body&& body) {
  const Wide wide;
  std::size_t i = 0;
  for (; i + hn::Lanes(wide) <= count; i += hn::Lanes(wide)) body(wide, i);
  for (; i < count; ++i) body(One(), i);
}

void NormRow(const float* x, const float* weight, float epsilon, float* out, std::size_t width) {
  const Wide wide;
  const std::size_t n = hn::Lanes(wide);
  auto sum0 = hn::Zero(wide), sum1 = hn::Zero(wide);
  std::size_t i = 0;
  for (; i + 2 * n <= width; i += 2 * n) {
    const auto a = hn::LoadU(wide, x + i), b = hn::LoadU(wide, x + i + n);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  float sum = hn::GetLane(hn::SumOfLanes(wide, hn::Add(sum0, sum1)));
  for (; i < width; ++i) sum += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
  for_each_vector(width, [&](auto tag, std::size_t at) {
    const auto scaled = hn::Mul(hn::LoadU(tag, x + at), hn::Set(tag, factor));
    hn::StoreU(hn::Mul(scaled, hn::LoadU(tag, weight + at)), tag, out + at);
  });
}

void RotateHalves(float* head, const float* cosine, const float* sine, std::size_t half) {
  for_each_vector(half, [&](auto tag, std::size_t i) {
    const auto a = hn::LoadU(tag, head + i), b = hn::LoadU(tag, head + half + i);
    const auto c = hn::LoadU(tag, cosine + i), s = hn::LoadU(tag, sine + i);
    hn::StoreU(hn::MulSub(a, c, hn::Mul(b, s)), tag, head + i);
    hn::StoreU(hn::MulAdd(b, c, hn::Mul(a, s)), tag, head + half + i);
  });
}

void RotatePairs(float* head, const float* cosine, const float* sine, std::size_t half) {
  for_each_vector(half, [&](auto tag, std::size_t i) {
    hn::Vec<decltype(tag)> a, b;
    hn::LoadInterleaved2(tag, head + 2 * i, a, b);
    const auto c = hn::LoadU(tag, cosine + i), s = hn::LoadU(tag, sine + i);
    hn::StoreInterleaved2(hn::MulSub(a, c, hn::Mul(b, s)), hn::MulAdd(b, c, hn::Mul(a, s)), tag, head + 2 * i);
  });
}

void RotateHeads(float* x, std::int64_t heads, std::int64_t head_dim, RopeLayout layout, const float* cosine,
                 const float* sine, std::size_t half) {
  for (std::int64_t h = 0; h < heads; ++h, x += head_dim)
    layout == RopeLayout::halves ? RotateHalves(x, cosine, sine, half) : RotatePairs(x, cosine, sine, half);
}

void SwigluRow(const float* gate, const float* up, float* out, std::size_t width) {
  for_each_vector(width, [&](auto tag, std::size_t i) {
    const auto x = hn::LoadU(tag, gate + i);
    // Beyond 88 exp(-x) would overflow; there x / exp(88) is zero to any purpose.
    const auto power = hn::Exp(tag, hn::Min(hn::Neg(x), hn::Set(tag, 88.0f)));
    const auto silu = hn::Div(x, hn::Add(power, hn::Set(tag, 1.0f)));
    hn::StoreU(hn::Mul(silu, hn::LoadU(tag, up + i)), tag, out + i);
  });
}

void AddTo(float* x, const float* y, std::size_t count) {
  for_each_vector(count, [&](auto tag, std::size_t i) {
    hn::StoreU(hn::Add(hn::LoadU(tag, x + i), hn::LoadU(tag, y + i)), tag, x + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace vortex::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vortex::kernels {

HWY_EXPORT(NormRow);
HWY_EXPORT(RotateHeads);
HWY_EXPORT(SwigluRow);
HWY_EXPORT(AddTo);

namespace {

// Floats of one task: fewer are done sooner than another thread would hear of them.
constexpr std::int64_t kTaskFloats = 8 << 10;

// Calls row(t) for every token, shared among threads when there are at least two tasks of work.
template <class Row>
void for_each_token(std::int64_t tokens, std::int64_t width, ThreadPool& pool, Row&& row) {
  const std::int64_t step = std::max<std::int64_t>(1, kTaskFloats / std::max<std::int64_t>(1, width));
  const std::int64_t tasks = (tokens + step - 1) / step;
  auto task = [&](std::int64_t index, int) {
    for (std::int64_t t = index * step; t < std::min(tokens, (index + 1) * step); ++t) row(t);
  };
  if (tasks == 1) return task(0, 0);
  pool.for_each(tasks, task);
}

}  // namespace

void rms_norm(const float* x, const float* weight, float epsilon, float* out, std::int64_t tokens, std::int64_t width,
              ThreadPool& pool) {
  for_each_token(tokens, width, pool, [&](std::int64_t t) {
    HWY_DYNAMIC_DISPATCH(NormRow)(x + t * width, weight, epsilon, out + t * width, static_cast<std::size_t>(width));
  });
}

void RopeAngles::fill(const std::int32_t* positions, std::int64_t tokens, const float* inverse_frequency,
                      std::int64_t pairs) {
  half = pairs;
  const std::size_t size = static_cast<std::size_t>(tokens * pairs);
  if (cosine.size() < size) cosine.resize(size), sine.resize(size);
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(positions[t]) * static_cast<double>(inverse_frequency[i]);
      cosine[static_cast<std::size_t>(t * pairs + i)] = static_cast<float>(std::cos(angle));
      sine[static_cast<std::size_t>(t * pairs + i)] = static_cast<float>(std::sin(angle));
    }
}

void rope(float* x, std::int64_t token_stride, std::int64_t heads, std::int64_t head_dim, RopeLayout layout,
          const RopeAngles& angles, std::int64_t tokens, ThreadPool& pool) {
  const std::int64_t half = angles.half;
  VORTEX_CHECK(2 * half <= head_dim, "rotary_dim ", 2 * half, ", head_dim ", head_dim);
  VORTEX_CHECK(static_cast<std::int64_t>(angles.cosine.size()) >= tokens * half, "angles of fewer than ", tokens,
               " tokens");
  for_each_token(tokens, heads * head_dim, pool, [&](std::int64_t t) {
    HWY_DYNAMIC_DISPATCH(RotateHeads)
    (x + t * token_stride, heads, head_dim, layout, angles.cosine.data() + t * half, angles.sine.data() + t * half,
     static_cast<std::size_t>(half));
  });
}

void swiglu(const float* gate_up, float* out, std::int64_t tokens, std::int64_t width, ThreadPool& pool) {
  for_each_token(tokens, width, pool, [&](std::int64_t t) {
    const float* gate = gate_up + 2 * t * width;
    HWY_DYNAMIC_DISPATCH(SwigluRow)(gate, gate + width, out + t * width, static_cast<std::size_t>(width));
  });
}

void add(float* x, const float* y, std::int64_t count, ThreadPool& pool) {
  const std::int64_t step = kTaskFloats;
  for_each_token((count + step - 1) / step, step, pool, [&](std::int64_t t) {
    HWY_DYNAMIC_DISPATCH(AddTo)(x + t * step, y + t * step, static_cast<std::size_t>(std::min(step, count - t * step)));
  });
}

}  // namespace vortex::kernels
#endif  // HWY_ONCE
