// Tile primitives over one axis: reductions, ops along the axis, the plain contraction, and folds over candidates.
// Terms are taken in ascending order, one accumulator a lane.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile/reduce.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/tile/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels::tile::HWY_NAMESPACE {

// One vector of lanes of the operand, `stride` floats from one element of the axis to the next.
struct Column {
  const float* data;
  std::int64_t stride, lane_stride, lanes;

  HWY_INLINE Floats at(std::int64_t element) const {
    const FloatTag d;
    const float* start = data + element * stride;
    if (lane_stride == 1) return hn::LoadU(d, start);
    if (lane_stride == 0) return hn::Set(d, *start);
    HWY_ALIGN float buffer[kWidth] = {};
    for (std::int64_t lane = 0; lane < HWY_MIN(lanes, kWidth); ++lane) buffer[lane] = start[lane * lane_stride];
    return hn::Load(d, buffer);
  }
};

HWY_INLINE Floats sum_of(const Column& column, std::int64_t extent) {
  Floats total = hn::Zero(FloatTag());
  for (std::int64_t k = 0; k < extent; ++k) total = hn::Add(total, column.at(k));
  return total;
}

HWY_INLINE Floats largest_of(const Column& column, std::int64_t extent) {
  Floats best = column.at(0);
  for (std::int64_t k = 1; k < extent; ++k) best = larger(best, column.at(k));
  return best;
}

HWY_INLINE Floats smallest_of(const Column& column, std::int64_t extent) {
  Floats best = column.at(0);
  for (std::int64_t k = 1; k < extent; ++k) best = smaller(best, column.at(k));
  return best;
}

HWY_INLINE Floats norm_of(const Column& column, std::int64_t extent) {
  Floats total = hn::Zero(FloatTag());
  for (std::int64_t k = 0; k < extent; ++k) {
    const Floats value = column.at(k);
    total = hn::MulAdd(value, value, total);
  }
  return hn::Sqrt(total);
}

HWY_INLINE Floats logsumexp_of(const Column& column, std::int64_t extent) {
  const FloatTag d;
  const Floats top = largest_of(column, extent);
  Floats total = hn::Zero(d);
  for (std::int64_t k = 0; k < extent; ++k) total = hn::Add(total, exponential_below_zero(hn::Sub(column.at(k), top)));
  const auto infinite = hn::Eq(hn::Abs(top), hn::Set(d, kInfinity));
  return hn::IfThenElse(infinite, top, hn::Add(top, logarithm(total)));
}

HWY_INLINE Floats reduced(Reduction op, const Column& column, std::int64_t extent) {
  switch (op) {
    case Reduction::sum:
      return sum_of(column, extent);
    case Reduction::mean:
      return hn::Div(sum_of(column, extent), hn::Set(FloatTag(), static_cast<float>(extent)));
    case Reduction::max:
      return largest_of(column, extent);
    case Reduction::min:
      return smallest_of(column, extent);
    case Reduction::norm:
      return norm_of(column, extent);
    case Reduction::logsumexp:
      return logsumexp_of(column, extent);
  }
  return hn::Zero(FloatTag());
}

struct ReduceBody {
  Reduction op;
  const Input& input;
  std::int64_t extent, stride, lanes;
  float* out;
  HWY_INLINE void operator()(const std::int64_t* offset) const {
    for (std::int64_t lane = 0; lane < lanes; lane += kWidth) {
      const Column column{input.data + offset[0] + lane * input.lane_stride, stride, input.lane_stride, lanes - lane};
      store_lanes(reduced(op, column, extent), out + offset[1] + lane, lanes - lane);
    }
  }
};

void run_reduce(Reduction op, const Nest& nest, const Input& input, std::int64_t extent, std::int64_t stride,
                const Output& output) {
  const std::int64_t* const strides[2] = {input.stride, output.stride};
  for_each_position<2>(nest, strides, ReduceBody{op, input, extent, stride, nest.lanes, output.data});
}

inline constexpr std::int64_t kKept = 64;  // elements of an axis

struct AlongBody {
  Along op;
  const Input& input;
  std::int64_t extent, stride, lanes;
  float* out;
  std::int64_t output_stride;
  HWY_INLINE void operator()(const std::int64_t* offset) const {
    for (std::int64_t lane = 0; lane < lanes; lane += kWidth) {
      const std::int64_t left = lanes - lane;
      const Column column{input.data + offset[0] + lane * input.lane_stride, stride, input.lane_stride, left};
      float* target = out + offset[1] + lane;
      if (op == Along::cumsum) {
        Floats total = hn::Zero(FloatTag());
        for (std::int64_t k = 0; k < extent; ++k) {
          total = hn::Add(total, column.at(k));
          store_lanes(total, target + k * output_stride, left);
        }
      } else {
        shares(column, target, left);
      }
    }
  }

  // Softmax and normalize. A short axis is read once: its steps are often a power of two apart, so that its elements
  // drive each other out of the nearest cache.
  HWY_INLINE void shares(const Column& column, float* target, std::int64_t left) const {
    const FloatTag d;
    HWY_ALIGN float kept[kKept * kWidth];
    const bool keeps = extent <= kKept;
    for (std::int64_t k = 0; keeps && k < extent; ++k) hn::Store(column.at(k), d, kept + k * kWidth);
    const Column near{kept, kWidth, 1, kWidth};
    const Column& from = keeps ? near : column;
    if (op == Along::normalize) {
      const Floats total = sum_of(from, extent);
      for (std::int64_t k = 0; k < extent; ++k)
        store_lanes(hn::Div(from.at(k), total), target + k * output_stride, left);
      return;
    }
    const Floats top = largest_of(from, extent);
    Floats total = hn::Zero(d);
    for (std::int64_t k = 0; k < extent; ++k) {
      const Floats value = exponential_below_zero(hn::Sub(from.at(k), top));
      total = hn::Add(total, value);
      if (keeps)
        hn::Store(value, d, kept + k * kWidth);
      else
        store_lanes(value, target + k * output_stride, left);
    }
    const Column far{target, output_stride, 1, left};
    const Column& written = keeps ? near : far;
    for (std::int64_t k = 0; k < extent; ++k)
      store_lanes(hn::Div(written.at(k), total), target + k * output_stride, left);
  }
};

void run_along(Along op, const Nest& nest, const Input& input, std::int64_t extent, std::int64_t stride,
               const Output& output, std::int64_t output_stride) {
  const std::int64_t* const strides[2] = {input.stride, output.stride};
  for_each_position<2>(nest, strides, AlongBody{op, input, extent, stride, nest.lanes, output.data, output_stride});
}

struct ContractBody {
  const Input &a, &b;
  std::int64_t a_stride, b_stride, extent, lanes;
  float* out;
  HWY_INLINE void operator()(const std::int64_t* offset) const {
    for (std::int64_t lane = 0; lane < lanes; lane += kWidth) {
      const Column x{a.data + offset[0] + lane * a.lane_stride, a_stride, a.lane_stride, lanes - lane};
      const Column y{b.data + offset[1] + lane * b.lane_stride, b_stride, b.lane_stride, lanes - lane};
      Floats total = hn::Zero(FloatTag());
      for (std::int64_t k = 0; k < extent; ++k) total = hn::MulAdd(x.at(k), y.at(k), total);
      store_lanes(total, out + offset[2] + lane, lanes - lane);
    }
  }
};

void run_contract(const Nest& nest, const Input& a, std::int64_t a_stride, const Input& b, std::int64_t b_stride,
                  std::int64_t extent, const Output& output) {
  const std::int64_t* const strides[3] = {a.stride, b.stride, output.stride};
  for_each_position<3>(nest, strides, ContractBody{a, b, a_stride, b_stride, extent, nest.lanes, output.data});
}

HWY_INLINE Floats folded(Fold op, Floats state, Floats value) {
  switch (op) {
    case Fold::sum:
      return hn::Add(state, value);
    case Fold::max:
      return larger(state, value);
    case Fold::min:
      return smaller(state, value);
    case Fold::sum_of_squares:
      return hn::MulAdd(value, value, state);
  }
  return state;
}

// Runs that are folded side by side: each waits for itself only.
inline constexpr std::int64_t kFolds = 4;

template <Fold op, int Runs>
HWY_INLINE void fold_runs(const float* const* runs, std::int64_t count, float* states) {
  const FloatTag d;
  for (std::int64_t part = 0; part < kLanes; part += kWidth) {
    Floats partial[Runs];
    for (int r = 0; r < Runs; ++r) partial[r] = hn::LoadU(d, states + r * kLanes + part);
    std::int64_t i = part;
    for (; i + kWidth <= count; i += kLanes)
      for (int r = 0; r < Runs; ++r) partial[r] = folded(op, partial[r], hn::LoadU(d, runs[r] + i));
    if (i < count) {
      const auto left = hn::FirstN(d, static_cast<std::size_t>(count - i));
      for (int r = 0; r < Runs; ++r)
        partial[r] = hn::IfThenElse(left, folded(op, partial[r], hn::LoadU(d, runs[r] + i)), partial[r]);
    }
    for (int r = 0; r < Runs; ++r) hn::StoreU(partial[r], d, states + r * kLanes + part);
  }
}

template <Fold op>
void fold_all(std::span<const float* const> runs, std::int64_t count, float* states) {
  const std::int64_t size = static_cast<std::int64_t>(runs.size());
  for (std::int64_t r = 0; r < size; r += kFolds) {
    const float* const* from = runs.data() + r;
    float* to = states + r * kLanes;
    switch (HWY_MIN(size - r, kFolds)) {
      case 1:
        fold_runs<op, 1>(from, count, to);
        break;
      case 2:
        fold_runs<op, 2>(from, count, to);
        break;
      case 3:
        fold_runs<op, 3>(from, count, to);
        break;
      default:
        fold_runs<op, 4>(from, count, to);
        break;
    }
  }
}

void run_fold(Fold op, std::span<const float* const> runs, std::int64_t count, float* states) {
  switch (op) {
    case Fold::sum:
      return fold_all<Fold::sum>(runs, count, states);
    case Fold::max:
      return fold_all<Fold::max>(runs, count, states);
    case Fold::min:
      return fold_all<Fold::min>(runs, count, states);
    case Fold::sum_of_squares:
      return fold_all<Fold::sum_of_squares>(runs, count, states);
  }
}

void run_fold_product(const float* a, const float* b, std::int64_t count, float* state) {
  const FloatTag d;
  for (std::int64_t part = 0; part < kLanes; part += kWidth) {
    Floats partial = hn::LoadU(d, state + part);
    std::int64_t i = part;
    for (; i + kWidth <= count; i += kLanes) partial = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), partial);
    if (i < count) {
      const Floats next = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), partial);
      partial = hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(count - i)), next, partial);
    }
    hn::StoreU(partial, d, state + part);
  }
}

}  // namespace vortex::kernels::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cmath>

namespace vortex::kernels::tile {

HWY_EXPORT(run_reduce);
HWY_EXPORT(run_along);
HWY_EXPORT(run_contract);
HWY_EXPORT(run_fold);
HWY_EXPORT(run_fold_product);

namespace {

template <std::size_t Count>
std::optional<std::size_t> index_of(const std::string_view (&names)[Count], std::string_view name) {
  for (std::size_t i = 0; i < Count; ++i)
    if (names[i] == name) return i;
  return std::nullopt;
}

}  // namespace

std::optional<Reduction> find_reduction(std::string_view name) {
  static constexpr std::string_view names[] = {"sum", "mean", "max", "min", "norm", "logsumexp"};
  auto index = index_of(names, name);
  return index ? std::optional(static_cast<Reduction>(*index)) : std::nullopt;
}

std::optional<Along> find_along(std::string_view name) {
  static constexpr std::string_view names[] = {"softmax", "normalize", "cumsum"};
  auto index = index_of(names, name);
  return index ? std::optional(static_cast<Along>(*index)) : std::nullopt;
}

void reduce(Reduction op, const Nest& nest, const Input& input, std::int64_t extent, std::int64_t stride,
            const Output& output) {
  HWY_DYNAMIC_DISPATCH(run_reduce)(op, nest, input, extent, stride, output);
}

void along(Along op, const Nest& nest, const Input& input, std::int64_t extent, std::int64_t stride,
           const Output& output, std::int64_t output_stride) {
  HWY_DYNAMIC_DISPATCH(run_along)(op, nest, input, extent, stride, output, output_stride);
}

void contract(const Nest& nest, const Input& a, std::int64_t a_stride, const Input& b, std::int64_t b_stride,
              std::int64_t extent, const Output& output) {
  HWY_DYNAMIC_DISPATCH(run_contract)(nest, a, a_stride, b, b_stride, extent, output);
}

void fold_begin(Fold op, float* state) {
  const bool yields = op == Fold::max || op == Fold::min;  // NaN gives way to any number
  std::fill(state, state + kLanes, yields ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
}

void fold(Fold op, std::span<const float* const> runs, std::int64_t count, float* states) {
  HWY_DYNAMIC_DISPATCH(run_fold)(op, runs, count, states);
}

void fold_product(const float* a, const float* b, std::int64_t count, float* state) {
  HWY_DYNAMIC_DISPATCH(run_fold_product)(a, b, count, state);
}

float fold_end(Fold op, const float* state) {
  float result = state[0];
  for (std::int64_t lane = 1; lane < kLanes; ++lane) {
    if (op == Fold::max) {
      if (std::isnan(result) || state[lane] > result) result = state[lane];
    } else if (op == Fold::min) {
      if (std::isnan(result) || state[lane] < result) result = state[lane];
    } else {
      result += state[lane];
    }
  }
  return result;
}

double scan(const float* run, std::int64_t count, double initial, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(initial += static_cast<double>(run[i]));
  return initial;
}

}  // namespace vortex::kernels::tile
#endif
