// The loops of the linears, written once over the vectors of one instruction set. Each linear_ISA.cpp defines `struct
// Vectors` in its anonymous namespace and includes this file there, so that no code compiled with its flags is shared.
//
// Vectors: lanes (rows in a register), tokens (kept in registers at once), Float, Int, Bytes (4 · lanes uint8),
// weights8 (what dot<8> wants), and the functions used below. begin, dot and end make the exact sum of half a block:
// dot adds the products of four columns; the sum begins at, or ends with, *start (null: 0).

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

template <int kWidth, int kTerms>
struct Group {  // one block of columns of a quantised group
  static constexpr std::int64_t bytes = kTokenBlockBytes[kTerms] * kWidth;
  const std::uint8_t* at;
  const std::int8_t* values(int term, int token, int column) const {
    return reinterpret_cast<const std::int8_t*>(at) + (term * kWidth + token) * kBlock + column;
  }
  const float* scale(int half, int token) const {
    return reinterpret_cast<const float*>(at + kTerms * kBlock * kWidth) + half * kWidth + token;
  }
  const float* sum(int token) const { return scale(2, token); }
  const std::int32_t* start(int half, int token) const {
    return reinterpret_cast<const std::int32_t*>(scale(3 + half, token));
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

// Four columns of 16 · lanes / 16 rows: group g of half h of a block. `high`: what the block has above the nibbles.
template <int kBits, int kHalf, int g>
inline auto weights_of(const std::uint8_t* block, const Vectors::Bytes* high) {
  using V = Vectors;
  if constexpr (kBits == 8) {
    return V::weights8(V::load_bytes(block + 64 * (4 * kHalf + g)));
  } else {
    const V::Bytes both = V::load_bytes(block + 64 * g);
    const V::Bytes low = kHalf == 0 ? V::low_nibbles(both) : V::high_nibbles(both);
    if constexpr (kBits == 5) return V::with_bits<4 - (4 * kHalf + g), 0x10>(low, high[0]);
    if constexpr (kBits == 6) return V::with_bits<4 - 2 * g, 0x30>(low, high[kHalf]);
    if constexpr (kBits == 4) return low;
  }
}

template <int kBits, int kHalf, int g, int kTokens, class X, int kTerms>
inline void add_group(const std::uint8_t* block, const Vectors::Bytes* high, const X& x, int first,
                      Vectors::Int (&sum)[kTokens][kTerms]) {
  const auto w = weights_of<kBits, kHalf, g>(block, high);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 2
    for (int term = 0; term < kTerms; ++term)
      sum[t][term] = Vectors::dot<kBits>(sum[t][term], w, x.values(term, first + t, 16 * kHalf + 4 * g));
}

// The exact sums of one half of a block, times the scale of the activations. Where there are minima the start is zero.
template <int kBits, int kHalf, int kTerms, int kTokens, class X>
inline void half_block(const std::uint8_t* block, const Vectors::Bytes* high, const X& x, int first,
                       Vectors::Float* out) {
  using V = Vectors;
  V::Int sum[kTokens][kTerms];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kTerms == 2) sum[t][0] = V::template begin<kBits>(nullptr);
    sum[t][kTerms - 1] = V::template begin<kBits>(x.start(kHalf, first + t));
  }
  add_group<kBits, kHalf, 0>(block, high, x, first, sum);
  add_group<kBits, kHalf, 1>(block, high, x, first, sum);
  add_group<kBits, kHalf, 2>(block, high, x, first, sum);
  add_group<kBits, kHalf, 3>(block, high, x, first, sum);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    V::Int all = V::template end<kBits>(sum[t][kTerms - 1], x.start(kHalf, first + t));
    if constexpr (kTerms == 2) all = V::add_254_times(all, V::template end<kBits>(sum[t][0], nullptr));
    const V::Float scale = V::broadcast(x.scale(kHalf, first + t));
    if constexpr (kHalf == 0 || kBits == 6)
      out[t] = V::mul(V::to_float(all), scale);
    else
      out[t] = V::fma(V::to_float(all), scale, out[t]);
  }
}

// kTokens tokens of a group of kWidth, beginning with `first`, times one panel.
template <int kBits, int kTerms, int kWidth, int kTokens>
inline void integer_tokens(const PanelCall& call, const std::uint8_t* panel, std::int64_t row, int asked) {
  using V = Vectors;
  const int first = kTokens == kWidth ? 0 : asked;  // the whole group: addresses are constants
  const PanelLayout layout = call.layout;
  const bool minima = kBits < 6 && layout.minima;
  const std::int64_t blocks = call.columns / kBlock;
  for (int lane = 0; lane < kPanelRows; lane += V::lanes) {
    V::Float acc[kTokens], part[kTokens], head_a = V::zero(), head_b = V::zero();
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) acc[t] = V::zero();
    const std::uint8_t* at = panel;
    Group<kWidth, kTerms> x{static_cast<const std::uint8_t*>(call.x)};
    for (std::int64_t b = 0; b < blocks; ++b, at += layout.block_bytes, x.at += x.bytes) {
      if (layout.super && b % kSuper == 0) {
        head_a = V::load_f16(at + 2 * lane);
        if (minima) head_b = V::load_f16(at + 2 * kPanelRows + 2 * lane);
        at += layout.head_bytes;
      }
      if (lane == 0 && first == 0) prefetch<64 * kBits + 64>(at);
      const std::uint8_t* block = at + 4 * lane;
      const std::uint8_t* scales = at + 64 * kBits;
      V::Bytes high[2];
      if constexpr (kBits == 5) high[0] = V::load_bytes(block + 256);
      if constexpr (kBits == 6) high[0] = V::load_bytes(block + 256), high[1] = V::load_bytes(block + 320);
      half_block<kBits, 0, kTerms, kTokens>(block, high, x, first, part);
      if constexpr (kBits == 6) {
        const V::Float a = V::mul(head_a, V::load_i8(scales + lane));
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) acc[t] = V::fma(a, part[t], acc[t]);
      }
      half_block<kBits, 1, kTerms, kTokens>(block, high, x, first, part);
      const V::Float a = kBits == 6     ? V::mul(head_a, V::load_i8(scales + kPanelRows + lane))
                         : layout.super ? V::mul(head_a, V::load_i8(scales + lane))
                                        : V::load_f16(scales + 2 * lane);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) acc[t] = V::fma(a, part[t], acc[t]);
      if (minima) {
        const V::Float m = layout.super ? V::mul(head_b, V::load_i8(scales + kPanelRows + lane))
                                        : V::load_f16(scales + 2 * kPanelRows + 2 * lane);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) acc[t] = V::fma(m, V::broadcast(x.sum(first + t)), acc[t]);
      }
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

template <int kBits, int kTerms, int kWidth>
inline void integer_width(const PanelCall& call) {
  constexpr int kMost = Vectors::tokens / kTerms;
  constexpr int kTokens = kWidth < kMost ? kWidth : kMost;
  for_each_panel(call, [&](const std::uint8_t* panel, std::int64_t row) {
    for (int first = 0; first < call.tokens; first += kTokens)
      integer_tokens<kBits, kTerms, kWidth, kTokens>(call, panel, row, first);
  });
}

template <int kBits, int kTerms>
inline void integer_terms(const PanelCall& call) {
  if (call.width == 1)
    integer_width<kBits, kTerms, 1>(call);
  else if (call.width == 2)
    integer_width<kBits, kTerms, 2>(call);
  else if (call.width == 4)
    integer_width<kBits, kTerms, 4>(call);
  else
    integer_width<kBits, kTerms, 8>(call);
}

template <int kBits>
inline void integer_bits(const PanelCall& call) {
  call.terms == 2 ? integer_terms<kBits, 2>(call) : integer_terms<kBits, 1>(call);
}

void integers(const PanelCall& call) {
  switch (call.layout.bits) {
    case 4:
      return integer_bits<4>(call);
    case 5:
      return integer_bits<5>(call);
    case 6:
      return integer_bits<6>(call);
    default:
      return integer_bits<8>(call);
  }
}

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

// Half a block (16 values) of one token. Scale = (largest magnitude) / 127, q = x / scale rounded to nearest even; the
// second term is what is left, in units of scale / 254. A half with a NaN or an infinity gets scale NaN, so that the
// outputs show it; halves below 1e-30 are zero. Returns Σ q or Σ (254 q + r).
inline std::int32_t quantize_half(const float* x, int terms, float* scale, std::int8_t* q, std::int8_t* r) {
  const float largest = x ? Vectors::largest_magnitude(x) : 0.0f;
  *scale = 0.0f;
  if (!(largest < 1e-30f) && largest <= 3.402823466e+38f) {
    const float step = largest / 127.0f;
    *scale = terms == 2 ? step / 254.0f : step;
    return terms == 2 ? Vectors::quantize_twice(x, 127.0f / largest, step, q, r)
                      : Vectors::quantize(x, 127.0f / largest, q);
  }
  __builtin_memset(q, 0, kBlock / 2);
  if (terms == 2) __builtin_memset(r, 0, kBlock / 2);
  if (!(largest < 1e-30f)) *scale = largest - largest;  // NaN
  return 0;
}

void quantize(const float* x, std::int64_t x_stride, std::int64_t tokens, std::int64_t width, std::int64_t blocks,
              int terms, int zero, std::uint8_t* group) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    std::uint8_t* block = group + b * kTokenBlockBytes[terms] * width;
    for (std::int64_t t = 0; t < width; ++t) {
      const float* from = t < tokens ? x + t * x_stride + b * kBlock : nullptr;
      auto* q = reinterpret_cast<std::int8_t*>(block) + t * kBlock;
      std::uint8_t* numbers = block + terms * width * kBlock + 4 * t;
      float scale[2];
      std::int32_t sum[2];
      for (int h = 0; h < 2; ++h) {
        sum[h] =
            quantize_half(from ? from + 16 * h : nullptr, terms, scale + h, q + 16 * h, q + width * kBlock + 16 * h);
        put(numbers + 4 * width * h, scale[h]);
        put(numbers + 4 * width * (3 + h), -zero * sum[h]);
      }
      put(numbers + 8 * width, scale[0] * static_cast<float>(sum[0]) + scale[1] * static_cast<float>(sum[1]));
    }
  }
}
