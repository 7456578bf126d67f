// Elementwise tile primitives: one functor an op, one loop for all of them.
#include "kernels/cpu/tile/targets.h"

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

#define VORTEX_TILE_MAP(name, arity_, expression)                        \
  struct name {                                                          \
    static constexpr int arity = arity_;                                 \
    static HWY_INLINE Floats apply([[maybe_unused]] const Operands& x) { \
      [[maybe_unused]] const FloatTag d;                                 \
      return expression;                                                 \
    }                                                                    \
  };

VORTEX_TILE_MAP(Neg, 1, hn::Neg(x.a))
VORTEX_TILE_MAP(AbsoluteValue, 1, hn::Abs(x.a))
VORTEX_TILE_MAP(Exponential, 1, exponential(x.a))
VORTEX_TILE_MAP(Logarithm, 1, logarithm(x.a))
VORTEX_TILE_MAP(SquareRoot, 1, hn::Sqrt(x.a))
VORTEX_TILE_MAP(InverseSquareRoot, 1, hn::Div(hn::Set(d, 1.0f), hn::Sqrt(x.a)))
VORTEX_TILE_MAP(Relu, 1, hn::IfThenElseZero(hn::Gt(x.a, hn::Zero(d)), x.a))
VORTEX_TILE_MAP(HyperbolicTangent, 1, hyperbolic_tangent(x.a))
VORTEX_TILE_MAP(Sigmoid, 1, hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), exponential(hn::Neg(x.a)))))
VORTEX_TILE_MAP(Silu, 1, hn::Div(x.a, hn::Add(hn::Set(d, 1.0f), exponential(hn::Neg(x.a)))))
VORTEX_TILE_MAP(Clamp, 1, smaller(larger(x.a, hn::Set(d, x.parameters[0])), hn::Set(d, x.parameters[1])))
VORTEX_TILE_MAP(Addition, 2, hn::Add(x.a, x.b))
VORTEX_TILE_MAP(Subtraction, 2, hn::Sub(x.a, x.b))
VORTEX_TILE_MAP(Multiplication, 2, hn::Mul(x.a, x.b))
VORTEX_TILE_MAP(Division, 2, hn::Div(x.a, x.b))
VORTEX_TILE_MAP(Maximum, 2, larger(x.a, x.b))
VORTEX_TILE_MAP(Minimum, 2, smaller(x.a, x.b))
VORTEX_TILE_MAP(Less, 2, one_where(hn::Lt(x.a, x.b)))
VORTEX_TILE_MAP(LessEqual, 2, one_where(hn::Le(x.a, x.b)))
VORTEX_TILE_MAP(Greater, 2, one_where(hn::Gt(x.a, x.b)))
VORTEX_TILE_MAP(GreaterEqual, 2, one_where(hn::Ge(x.a, x.b)))
VORTEX_TILE_MAP(Equal, 2, one_where(hn::Eq(x.a, x.b)))
VORTEX_TILE_MAP(Where, 3, hn::IfThenElse(hn::Eq(x.a, hn::Zero(d)), x.c, x.b))
#undef VORTEX_TILE_MAP

struct Power {
  static constexpr int arity = 2;
  static HWY_INLINE Floats apply(const Operands& x) {
    const FloatTag d;
    HWY_ALIGN float a[kWidth], b[kWidth];
    hn::Store(x.a, d, a);
    hn::Store(x.b, d, b);
    for (std::int64_t i = 0; i < kWidth; ++i)
      a[i] = b[i] == 2.0f ? a[i] * a[i]
                          : static_cast<float>(std::pow(static_cast<double>(a[i]), static_cast<double>(b[i])));
    return hn::Load(d, a);
  }
};

struct Random {
  static constexpr int arity = 2;
  static HWY_INLINE Floats apply(const Operands& x) {
    const FloatTag d;
    const BitsTag bits;
    const auto a = hn::BitCast(bits, hn::Add(x.a, hn::Zero(d))), b = hn::BitCast(bits, hn::Add(x.b, hn::Zero(d)));
    const auto inner = hash_bits(hn::Add(a, hn::Set(bits, 0x9e3779b9u)));
    const auto outer = hash_bits(hn::Xor(inner, hn::Add(b, hn::Set(bits, 0x85ebca6bu))));
    const auto integers = hn::BitCast(hn::RebindToSigned<FloatTag>(), hn::ShiftRight<8>(outer));
    return hn::Mul(hn::ConvertTo(d, integers), hn::Set(d, 0x1p-24f));
  }
};

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
    case Map::neg:
      return map_run<Neg>;
    case Map::abs:
      return map_run<AbsoluteValue>;
    case Map::exp:
      return map_run<Exponential>;
    case Map::log:
      return map_run<Logarithm>;
    case Map::sqrt:
      return map_run<SquareRoot>;
    case Map::rsqrt:
      return map_run<InverseSquareRoot>;
    case Map::relu:
      return map_run<Relu>;
    case Map::tanh:
      return map_run<HyperbolicTangent>;
    case Map::sigmoid:
      return map_run<Sigmoid>;
    case Map::silu:
      return map_run<Silu>;
    case Map::clamp:
      return map_run<Clamp>;
    case Map::add:
      return map_run<Addition>;
    case Map::sub:
      return map_run<Subtraction>;
    case Map::mul:
      return map_run<Multiplication>;
    case Map::div:
      return map_run<Division>;
    case Map::maximum:
      return map_run<Maximum>;
    case Map::minimum:
      return map_run<Minimum>;
    case Map::less:
      return map_run<Less>;
    case Map::less_equal:
      return map_run<LessEqual>;
    case Map::greater:
      return map_run<Greater>;
    case Map::greater_equal:
      return map_run<GreaterEqual>;
    case Map::equal:
      return map_run<Equal>;
    case Map::pow:
      return map_run<Power>;
    case Map::random:
      return map_run<Random>;
    case Map::where:
      return map_run<Where>;
  }
  return nullptr;
}

void run_map(Map op, const Nest& nest, const Input* inputs, const Output& output, const float* parameters) {
  const int arity = op >= Map::where ? 3 : op >= Map::add ? 2 : 1;
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
      "neg",        "abs",     "exp",           "log",   "sqrt", "rsqrt",  "relu",    "tanh",    "sigmoid",
      "silu",       "clamp",   "add",           "sub",   "mul",  "div",    "maximum", "minimum", "less",
      "less_equal", "greater", "greater_equal", "equal", "pow",  "random", "where"};
  for (std::size_t i = 0; i < std::size(names); ++i)
    if (names[i] == name) return static_cast<Map>(i);
  return std::nullopt;
}

void map(Map op, const Nest& nest, const Input* inputs, const Output& output, const float* parameters) {
  HWY_DYNAMIC_DISPATCH(run_map)(op, nest, inputs, output, parameters);
}

}  // namespace vortex::kernels::tile
#endif
