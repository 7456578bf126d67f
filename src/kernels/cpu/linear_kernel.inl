// The loops of the linears, written once over the vectors of one instruction set. Each linear_ISA.cpp defines `struct
// Vectors` in its anonymous namespace and includes this file there, so that no code compiled with its flags is shared.
//
// Vectors: lanes (rows in a register), tokens (kept in registers at once), Float, Int, Bytes (4 · lanes uint8),
// Weights8, and the functions used below. dot4 and dot8 add the products of four columns; sum4 makes dot4's sum of a
// block into int32.

// One 32-bit word of memory, as a value that may be written to bytes.
template <class T>
inline void put(std::uint8_t* at, T value) {
  __builtin_memcpy(at, &value, sizeof value);
}

// Weights are read once, in order, and arrive from far: asking for them this far ahead keeps the memory busy while the
// sums wait for each other. Also asks past the end of a panel, for the next one.
constexpr std::int64_t kAhead = 4096;

template <std::int64_t kBytes>
inline void prefetch(const std::uint8_t* weights) {
  for (std::int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(weights + kAhead + i, 0, 2);
}

template <int kWidth>
struct Group {  // one block of columns of a quantised group
  static constexpr std::int64_t bytes = kTokenBlockBytes * kWidth;
  const std::uint8_t* at;
  const std::int8_t* values(int token, int column) const {
    return reinterpret_cast<const std::int8_t*>(at) + token * kBlock + column;
  }
  const float* scale(int token) const { return reinterpret_cast<const float*>(at + kBlock * kWidth) + token; }
  const float* sum(int token) const { return scale(token) + kWidth; }
  const std::int32_t* offset(int token) const {
    return reinterpret_cast<const std::int32_t*>(scale(token) + 2 * kWidth);
  }
};

inline void store_outputs(const PanelCall& call, std::int64_t row, int lane, std::int64_t token, Vectors::Float value) {
  const std::int64_t first = row + lane;
  const std::int64_t left = call.rows - first;
  float* y = call.y + token * call.y_stride + first;
  if (left >= Vectors::lanes) {
    if (call.bias) value = Vectors::add(value, Vectors::load(call.bias + first));
    Vectors::store(y, value);
    return;
  }
  float all[Vectors::lanes];
  Vectors::store(all, value);
  for (std::int64_t i = 0; i < left; ++i) y[i] = call.bias ? all[i] + call.bias[first + i] : all[i];
}

// kTokens tokens of a group of kWidth, beginning with `first`, times one panel.
template <int kWidth, int kTokens>
inline void q8_0_tokens(const PanelCall& call, const std::uint8_t* panel, std::int64_t row, int first) {
  using V = Vectors;
  for (int lane = 0; lane < kPanelRows; lane += V::lanes) {
    V::Float acc[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) acc[t] = V::zero();
    const std::uint8_t* weights = panel + 4 * lane;
    const std::uint8_t* scales = panel + 512 + 2 * lane;
    Group<kWidth> x{static_cast<const std::uint8_t*>(call.x)};
    for (std::int64_t column = 0; column < call.columns; column += kBlock) {
      if (lane == 0 && first == 0) prefetch<kQ8BlockBytes>(weights);
      V::Int sum[kTokens];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sum[t] = V::start8(x.offset(first + t));
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        const V::Weights8 w = V::weights8(V::load_bytes(weights + 64 * g));
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sum[t] = V::dot8(sum[t], w, x.values(first + t, 4 * g));
      }
      const V::Float d = V::load_f16(scales);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t)
        acc[t] = V::fma(V::to_float(sum[t]), V::mul(d, V::broadcast(x.scale(first + t))), acc[t]);
      weights += kQ8BlockBytes;
      scales += kQ8BlockBytes;
      x.at += Group<kWidth>::bytes;
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t)
      if (first + t < call.tokens) store_outputs(call, row, lane, first + t, acc[t]);
  }
}

template <int kWidth, int kTokens>
inline void q4_1_tokens(const PanelCall& call, const std::uint8_t* panel, std::int64_t row, int first) {
  using V = Vectors;
  for (int lane = 0; lane < kPanelRows; lane += V::lanes) {
    V::Float acc[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) acc[t] = V::zero();
    const std::uint8_t* weights = panel + 4 * lane;
    const std::uint8_t* scales = panel + 256 + 2 * lane;
    Group<kWidth> x{static_cast<const std::uint8_t*>(call.x)};
    for (std::int64_t column = 0; column < call.columns; column += kBlock) {
      if (lane == 0 && first == 0) prefetch<kQ4BlockBytes>(weights);
      V::Int sum[kTokens];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sum[t] = V::zero_int();
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) {
        const V::Bytes both = V::load_bytes(weights + 64 * g);
        const V::Bytes low = V::low_nibbles(both), high = V::high_nibbles(both);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sum[t] = V::dot4(sum[t], low, x.values(first + t, 4 * g));
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sum[t] = V::dot4(sum[t], high, x.values(first + t, 16 + 4 * g));
      }
      const V::Float d = V::load_f16(scales), m = V::load_f16(scales + 32);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        acc[t] = V::fma(V::to_float(V::sum4(sum[t])), V::mul(d, V::broadcast(x.scale(first + t))), acc[t]);
        acc[t] = V::fma(m, V::broadcast(x.sum(first + t)), acc[t]);
      }
      weights += kQ4BlockBytes;
      scales += kQ4BlockBytes;
      x.at += Group<kWidth>::bytes;
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t)
      if (first + t < call.tokens) store_outputs(call, row, lane, first + t, acc[t]);
  }
}

template <class Tokens>
inline void for_each_panel(const PanelCall& call, Tokens&& tokens) {
  for (std::int64_t p = 0; p < call.panels; ++p) tokens(call.panel + p * call.panel_bytes, p * kPanelRows);
}

#define VORTEX_QUANTISED_PANELS(format)                                          \
  template <int kWidth>                                                          \
  inline void format##_width(const PanelCall& call) {                            \
    constexpr int kTokens = kWidth < Vectors::tokens ? kWidth : Vectors::tokens; \
    for_each_panel(call, [&](const std::uint8_t* panel, std::int64_t row) {      \
      for (int first = 0; first < call.tokens; first += kTokens)                 \
        format##_tokens<kWidth, kTokens>(call, panel, row, first);               \
    });                                                                          \
  }                                                                              \
  void format(const PanelCall& call) {                                           \
    if (call.width == 1)                                                         \
      format##_width<1>(call);                                                   \
    else if (call.width == 2)                                                    \
      format##_width<2>(call);                                                   \
    else if (call.width == 4)                                                    \
      format##_width<4>(call);                                                   \
    else                                                                         \
      format##_width<8>(call);                                                   \
  }
VORTEX_QUANTISED_PANELS(q8_0)
VORTEX_QUANTISED_PANELS(q4_1)
#undef VORTEX_QUANTISED_PANELS

struct LoadF32 {
  using Element = float;
  static Vectors::Float load(const float* at) { return Vectors::load(at); }
};
struct LoadF16 {
  using Element = std::uint16_t;
  static Vectors::Float load(const std::uint16_t* at) {
    return Vectors::load_f16(reinterpret_cast<const std::uint8_t*>(at));
  }
};
struct LoadBF16 {
  using Element = std::uint16_t;
  static Vectors::Float load(const std::uint16_t* at) { return Vectors::load_bf16(at); }
};

template <class Load, int kTokens>
inline void float_tokens(const PanelCall& call, const std::uint8_t* panel, std::int64_t row, std::int64_t first) {
  using V = Vectors;
  for (int lane = 0; lane < kPanelRows; lane += V::lanes) {
    V::Float even[kTokens], odd[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) even[t] = odd[t] = V::zero();
    const auto* weights = reinterpret_cast<const typename Load::Element*>(panel) + lane;
    const float* x = static_cast<const float*>(call.x) + first * call.x_stride;
    std::int64_t column = 0;
    for (; column + 2 <= call.columns; column += 2) {
      if (lane == 0 && first == 0)
        prefetch<2 * kPanelRows * sizeof(typename Load::Element)>(reinterpret_cast<const std::uint8_t*>(weights));
      const V::Float w = Load::load(weights), v = Load::load(weights + kPanelRows);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        even[t] = V::fma(w, V::broadcast(x + t * call.x_stride + column), even[t]);
        odd[t] = V::fma(v, V::broadcast(x + t * call.x_stride + column + 1), odd[t]);
      }
      weights += 2 * kPanelRows;
    }
    if (column < call.columns) {
      const V::Float w = Load::load(weights);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) even[t] = V::fma(w, V::broadcast(x + t * call.x_stride + column), even[t]);
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) store_outputs(call, row, lane, first + t, V::add(even[t], odd[t]));
  }
}

template <class Load>
inline void float_panels(const PanelCall& call) {
  for_each_panel(call, [&](const std::uint8_t* panel, std::int64_t row) {
    std::int64_t first = 0;
    if constexpr (Vectors::tokens >= 8)
      for (; first + 8 <= call.tokens; first += 8) float_tokens<Load, 8>(call, panel, row, first);
    for (; first + 4 <= call.tokens; first += 4) float_tokens<Load, 4>(call, panel, row, first);
    for (; first + 2 <= call.tokens; first += 2) float_tokens<Load, 2>(call, panel, row, first);
    if (first < call.tokens) float_tokens<Load, 1>(call, panel, row, first);
  });
}

void f32(const PanelCall& call) { float_panels<LoadF32>(call); }
void f16(const PanelCall& call) { float_panels<LoadF16>(call); }
void bf16(const PanelCall& call) { float_panels<LoadBF16>(call); }

// Scale = (largest magnitude) / 127, q = x / scale rounded to nearest even. Blocks with a NaN or an infinity get scale
// NaN, so that the outputs show it; blocks below 1e-30 are zero.
void quantize(const float* x, std::int64_t x_stride, std::int64_t tokens, std::int64_t width, std::int64_t blocks,
              std::uint8_t* group) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    std::uint8_t* block = group + b * kTokenBlockBytes * width;
    for (std::int64_t t = 0; t < width; ++t) {
      float scale = 0.0f;
      std::int32_t sum = 0;
      std::uint8_t* values = block + t * kBlock;
      const float* from = x + t * x_stride + b * kBlock;
      const float largest = t < tokens ? Vectors::largest_magnitude(from) : 0.0f;
      if (!(largest < 1e-30f)) {
        if (largest <= 3.402823466e+38f) {
          scale = largest / 127.0f;
          sum = Vectors::quantize(from, 127.0f / largest, reinterpret_cast<std::int8_t*>(values));
        } else {
          scale = largest - largest;  // NaN
          __builtin_memset(values, 0, kBlock);
        }
      } else {
        __builtin_memset(values, 0, kBlock);
      }
      std::uint8_t* numbers = block + width * kBlock + 4 * t;
      put(numbers, scale);
      put(numbers + 4 * width, scale * static_cast<float>(sum));
      put(numbers + 8 * width, -128 * sum);
    }
  }
}
