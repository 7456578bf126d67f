// Elementary functions on vectors with the edge cases the language defines: infinities and NaN as IEEE and libm have
// them.
#if defined(VORTEX_TILE_MATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef VORTEX_TILE_MATH_INL_H
#undef VORTEX_TILE_MATH_INL_H
#else
#define VORTEX_TILE_MATH_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>

#include <limits>

#include "kernels/cpu/tile/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels::tile::HWY_NAMESPACE {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

HWY_INLINE Floats exponential(Floats x) {
  const FloatTag d;
  // Highway's Exp overflows to infinity by itself up to 104, and takes NaN for a number.
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, hn::Min(x, hn::Set(d, 104.0f))));
}

// The same for x <= 0 or NaN, as in a softmax.
HWY_INLINE Floats exponential_below_zero(Floats x) {
  const FloatTag d;
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));
}

HWY_INLINE Floats logarithm(Floats x) {
  const FloatTag d;
  const Floats zero = hn::Zero(d), infinity = hn::Set(d, kInfinity);
  Floats y = hn::Log(d, x);
  y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinity), y);
  y = hn::IfThenElse(hn::Eq(x, infinity), infinity, y);
  return hn::IfThenElse(hn::Or(hn::Lt(x, zero), hn::IsNaN(x)), hn::Set(d, std::numeric_limits<float>::quiet_NaN()), y);
}

HWY_INLINE Floats hyperbolic_tangent(Floats x) {
  const FloatTag d;
  const Floats one = hn::Set(d, 1.0f), limit = hn::Set(d, 9.1f);
  Floats y = hn::Tanh(d, hn::Max(hn::Min(x, limit), hn::Neg(limit)));
  y = hn::IfThenElse(hn::Ge(hn::Abs(x), limit), hn::CopySign(one, x), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

}  // namespace vortex::kernels::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
