// Elementwise tile primitives: one functor an op, one loop for all of them.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile/map.cpp"
#include <hwy/foreach_target.h>

#include <cmath>

#include "kernels/cpu/tile/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels::tile::HWY_NAMESPACE {

using Mask = decltype(hn::IsNaN(Floats()));

HWY_INLINE Floats one_where(Mask mask) { return hn::IfThenElseZero(mask, hn::Set(FloatTag(), 1.0f)); }

HWY_INLINE hn::VFromD<BitsTag> hash_bits(hn::VFromD<BitsTag> x) {
  const BitsTag d;
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7feb352du));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, 0x846ca68bu));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

// A functor sees its operands and the op's parameters.
struct Operands {
  Floats a, b, c;
  const float* parameters;
};

HWY_INLINE Floats power(Floats base, Floats exponent) {
  const FloatTag d;
  HWY_ALIGN float a[kWidth], b[kWidth];
  hn::Store(base, d, a);
  hn::Store(exponent, d, b);
  for (std::int64_t i = 0; i < kWidth; ++i)
    a[i] =
        b[i] == 2.0f ? a[i] * a[i] : static_cast<float>(std::pow(static_cast<double>(a[i]), static_cast<double>(b[i])));
  return hn::Load(d, a);
}

HWY_INLINE Floats random_of(Floats first, Floats second) {
  const FloatTag d;
  const BitsTag bits;
  const Floats zero = hn::Zero(d);  // adding it makes −0 to 0
  const auto a = hn::BitCast(bits, hn::Add(first, zero)), b = hn::BitCast(bits, hn::Add(second, zero));
  const auto inner = hash_bits(hn::Add(a, hn::Set(bits, 0x9e3779b9u)));
  const auto outer = hash_bits(hn::Xor(inner, hn::Add(b, hn::Set(bits, 0x85ebca6bu))));
  const auto integers = hn::BitCast(hn::RebindToSigned<FloatTag>(), hn::ShiftRight<8>(outer));
  return hn::Mul(hn::ConvertTo(d, integers), hn::Set(d, 0x1p-24f));
}

#define VORTEX_TILE_MAP(name, operands, ...)                             \
  struct Map_##name {                                                    \
    static constexpr int arity = operands;                               \
    static HWY_INLINE Floats apply([[maybe_unused]] const Operands& x) { \
      [[maybe_unused]] const FloatTag d;                                 \
      return __VA_ARGS__;                                                \
    }                                                                    \
  };
#include "kernels/cpu/tile/map_table.inl"
#undef VORTEX_TILE_MAP

template <class Functor>
HWY_NOINLINE void map_run(const Input* inputs, const std::int64_t* offset, float* out, std::int64_t lanes,
                          const float* parameters) {
  constexpr int arity = Functor::arity;
  HWY_ALIGN float buffer[arity][kBlock + kWidth];
  Run a(inputs[0].data + offset[0], inputs[0].lane_stride, buffer[0]);
  Run b = arity > 1 ? Run(inputs[1].data + offset[1], inputs[1].lane_stride, buffer[arity > 1 ? 1 : 0]) : a;
  Run c = arity > 2 ? Run(inputs[2].data + offset[2], inputs[2].lane_stride, buffer[arity > 2 ? 2 : 0]) : a;
  for (std::int64_t begin = 0; begin < lanes; begin += kBlock) {
    const std::int64_t count = HWY_MIN(kBlock, lanes - begin);
    a.seek(begin, count);
    if (arity > 1) b.seek(begin, count);
    if (arity > 2) c.seek(begin, count);
    for (std::int64_t lane = 0; lane < count; lane += kWidth) {
      Operands x{a.at(lane), arity > 1 ? b.at(lane) : a.at(lane), arity > 2 ? c.at(lane) : a.at(lane), parameters};
      store_lanes(Functor::apply(x), out + begin + lane, count - lane);
    }
  }
}

using MapRun = void (*)(const Input*, const std::int64_t*, float*, std::int64_t, const float*);

struct MapBody {
  MapRun run;
  const Input* inputs;
  float* out;
  std::int64_t lanes;
  const float* parameters;
  HWY_INLINE void operator()(const std::int64_t* offset) const {
    run(inputs, offset, out + offset[3], lanes, parameters);
  }
};

MapRun run_of(Map op) {
  switch (op) {
#define VORTEX_TILE_MAP(name, operands, ...) \
  case Map::name:                            \
    return map_run<Map_##name>;
#include "kernels/cpu/tile/map_table.inl"
#undef VORTEX_TILE_MAP
  }
  return nullptr;
}

int arity_of(Map op) {
  static constexpr int arities[] = {
#define VORTEX_TILE_MAP(name, operands, ...) operands,
#include "kernels/cpu/tile/map_table.inl"
#undef VORTEX_TILE_MAP
  };
  return arities[static_cast<std::size_t>(op)];
}

void run_map(Map op, const Nest& nest, const Input* inputs, const Output& output, const float* parameters) {
  const int arity = arity_of(op);
  const std::int64_t* const strides[4] = {inputs[0].stride, inputs[arity > 1 ? 1 : 0].stride,
                                          inputs[arity > 2 ? 2 : 0].stride, output.stride};
  for_each_position<4>(nest, strides, MapBody{run_of(op), inputs, output.data, nest.lanes, parameters});
}

}  // namespace vortex::kernels::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vortex::kernels::tile {

HWY_EXPORT(run_map);

std::optional<Map> find_map(std::string_view name) {
  static constexpr std::string_view names[] = {
#define VORTEX_TILE_MAP(name, operands, ...) #name,
#include "kernels/cpu/tile/map_table.inl"
#undef VORTEX_TILE_MAP
  };
  for (std::size_t i = 0; i < std::size(names); ++i)
    if (names[i] == name) return static_cast<Map>(i);
  return std::nullopt;
}

void map(Map op, const Nest& nest, const Input* inputs, const Output& output, const float* parameters) {
  HWY_DYNAMIC_DISPATCH(run_map)(op, nest, inputs, output, parameters);
}

}  // namespace vortex::kernels::tile
#endif
