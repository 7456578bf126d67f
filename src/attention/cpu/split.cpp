#include "attention/cpu/split.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/cpu/split.cpp"
// The order of these matters.
// clang-format off
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <cmath>

#include "attention/cpu/fetcher.h"
#include "base/arithmetic.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::attention {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::ScalableTag<std::uint32_t>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;

constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(DF()));
constexpr std::int64_t kTokens = kSplitTokens;
// For R rows: vectors of tokens of one pass of logits, R × these sums being kept in registers, and vectors of channel
// pairs of one pass over V, with 2 · R × these sums. A sum waits for itself, so there must be about eight of them.
#if HWY_TARGET == HWY_SCALAR
template <int R>
constexpr int kTokenVectors = 2;
template <int R>
constexpr int kColumnVectors = 1;
#elif HWY_TARGET == HWY_AVX2
template <int R>
constexpr int kTokenVectors = R == 1   ? 8
                              : R == 2 ? 4
                                       : 2;
template <int R>
constexpr int kColumnVectors = R == 1   ? 4
                               : R == 2 ? 2
                                        : 1;
#else
template <int R>
constexpr int kTokenVectors = R == 1 ? 8 : 4;
template <int R>
constexpr int kColumnVectors = 2;
#endif
constexpr int kRows = 4;

static_assert(kLanes <= kRowPadding && kTokens % (kLanes * kTokenVectors<1>) == 0);

// A pair of bf16 in each 32-bit lane: the first (lower address) and the second as floats.
template <class V>
HWY_INLINE auto first_of_pair(V pairs) {
  return hn::BitCast(hn::RebindToFloat<hn::DFromV<V>>(), hn::ShiftLeft<16>(pairs));
}
template <class V>
HWY_INLINE auto second_of_pair(V pairs) {
  return hn::BitCast(hn::RebindToFloat<hn::DFromV<V>>(), hn::And(pairs, hn::Set(hn::DFromV<V>(), 0xffff0000u)));
}

// 2^x for x <= 0: relative error under 2e-7; exactly 1 at 0; 0 below -126; NaN stays NaN.
HWY_INLINE VF exp2_of(VF x) {
  const DF d;
  const DU du;
  const VF magic = hn::Set(d, 12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer in the low bits
  const VF shifted = hn::Add(x, magic);
  const VF fraction = hn::Sub(x, hn::Sub(shifted, magic));
  VF y = hn::Set(d, 0x1.41fbbcp-13f);
  y = hn::MulAdd(y, fraction, hn::Set(d, 0x1.5f3e54p-10f));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0x1.3b2d4cp-7f));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0x1.c6aee8p-5f));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0x1.ebfbdcp-3f));
  y = hn::MulAdd(y, fraction, hn::Set(d, 0x1.62e430p-1f));
  y = hn::MulAdd(y, fraction, hn::Set(d, 1.0f));
  const VF scaled = hn::BitCast(d, hn::Add(hn::BitCast(du, y), hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), hn::IfThenElse(hn::Eq(x, x), scaled, x));
}

#if HWY_TARGET != HWY_SCALAR
// Four channels pairs of kLanes tokens as one vector: block b holds those of token 4b.
HWY_INLINE VU load_blocks(const BFloat16* const* tokens, std::int64_t pair) {
  const hn::Full128<std::uint32_t> d4;
  auto at = [&](int block) { return hn::LoadU(d4, reinterpret_cast<const std::uint32_t*>(tokens[4 * block]) + pair); };
#if HWY_MAX_BYTES == 64
  const hn::Half<DU> d8;
  return hn::Combine(DU(), hn::Combine(d8, at(3), at(2)), hn::Combine(d8, at(1), at(0)));
#elif HWY_MAX_BYTES == 32
  return hn::Combine(DU(), at(1), at(0));
#else
  return at(0);
#endif
}
#endif

// keys[pair · 128 + token] = channels (2·pair, 2·pair + 1) of the token.
void transpose_keys(const BFloat16* const* k, std::int64_t tokens, std::int64_t head_dim,
                    [[maybe_unused]] Fetcher& fetcher, [[maybe_unused]] std::int64_t fetch,
                    std::uint32_t* HWY_RESTRICT keys) {
  const std::int64_t pairs = head_dim / 2;
  for (std::int64_t token = 0; token < tokens; token += kLanes) {
    const BFloat16* rows[kLanes];
    for (std::int64_t i = 0; i < kLanes; ++i) rows[i] = k[std::min(token + i, tokens - 1)];
    std::int64_t pair = 0;
#if HWY_TARGET != HWY_SCALAR
    const DU d;
    const hn::Repartition<std::uint64_t, DU> d64;
    for (; pair + 4 <= pairs; pair += 4) {
      fetcher.step(fetch);
      const VU a = load_blocks(rows, pair), b = load_blocks(rows + 1, pair);
      const VU c = load_blocks(rows + 2, pair), e = load_blocks(rows + 3, pair);
      const auto ab_low = hn::BitCast(d64, hn::InterleaveLower(d, a, b)),
                 ab_high = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
      const auto ce_low = hn::BitCast(d64, hn::InterleaveLower(d, c, e)),
                 ce_high = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
      std::uint32_t* out = keys + pair * kTokens + token;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_low, ce_low)), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_low, ce_low)), d, out + kTokens);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_high, ce_high)), d, out + 2 * kTokens);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_high, ce_high)), d, out + 3 * kTokens);
    }
#endif
    for (; pair < pairs; ++pair)
      for (std::int64_t i = 0; i < kLanes; ++i)
        keys[pair * kTokens + token + i] = reinterpret_cast<const std::uint32_t*>(rows[i])[pair];
  }
}

// logits[row · 128 + token] for R rows and the tokens up to the next multiple of kTokenVectors vectors.
template <int R>
HWY_NOINLINE void logits_of(const float* HWY_RESTRICT q, const std::uint32_t* HWY_RESTRICT keys, std::int64_t tokens,
                            std::int64_t head_dim, Fetcher& fetcher, std::int64_t fetch, float* HWY_RESTRICT logits) {
  const DF d;
  const DU du;
  constexpr int kVectors = kTokenVectors<R>;
  for (std::int64_t token = 0; token < tokens; token += kLanes * kVectors) {
    VF sum[R][kVectors];
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < kVectors; ++t) sum[r][t] = hn::Zero(d);
    for (std::int64_t pair = 0; pair < head_dim / 2; ++pair) {
      fetcher.step(fetch);
      // The pairs are read twice, which leaves the registers to the sums; the compiler would keep them.
      const std::uint32_t* HWY_RESTRICT at = keys + pair * kTokens + token;
      const float* HWY_RESTRICT channels = q + 2 * pair;
      VF channel[R];
      for (int r = 0; r < R; ++r) channel[r] = hn::Set(d, channels[r * head_dim]);
      for (int t = 0; t < kVectors; ++t) {
        const VF key = first_of_pair(hn::LoadU(du, at + t * kLanes));
        for (int r = 0; r < R; ++r) sum[r][t] = hn::MulAdd(channel[r], key, sum[r][t]);
      }
      __asm__ volatile("" ::: "memory");
      for (int r = 0; r < R; ++r) channel[r] = hn::Set(d, channels[r * head_dim + 1]);
      for (int t = 0; t < kVectors; ++t) {
        const VF key = second_of_pair(hn::LoadU(du, at + t * kLanes));
        for (int r = 0; r < R; ++r) sum[r][t] = hn::MulAdd(channel[r], key, sum[r][t]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < kVectors; ++t) hn::StoreU(sum[r][t], d, logits + r * kTokens + token + t * kLanes);
  }
}

// Turns `tokens` logits into p in place and gives their largest and their sum. Writes up to the next multiple of 16.
HWY_INLINE void softmax_of(float* HWY_RESTRICT logits, std::int64_t tokens, float* m, float* l) {
  const DF d;
  constexpr int kVectors = static_cast<int>(16 / kLanes);  // of the 16 interleaved sums
  VF largest = hn::Set(d, -HUGE_VALF);
  for (std::int64_t i = 0; i < tokens; i += kLanes) {
    const VF x = hn::LoadU(d, logits + i);
    const auto seen = hn::FirstN(d, static_cast<std::size_t>(std::min(tokens - i, kLanes)));
    largest = hn::Max(largest, hn::IfThenElse(seen, x, hn::Set(d, -HUGE_VALF)));
  }
  const VF top = hn::MaxOfLanes(d, largest);
  VF sums[kVectors];
  for (int j = 0; j < kVectors; ++j) sums[j] = hn::Zero(d);
  for (std::int64_t i = 0; i < tokens; i += 16) {
    for (int j = 0; j < kVectors; ++j) {
      const std::int64_t first = i + j * kLanes;
      const auto seen = hn::FirstN(d, static_cast<std::size_t>(std::clamp(tokens - first, std::int64_t{0}, kLanes)));
      const VF p = hn::IfThenElseZero(seen, exp2_of(hn::Sub(hn::LoadU(d, logits + first), top)));
      hn::StoreU(p, d, logits + first);
      sums[j] = hn::Add(sums[j], p);
    }
  }
  alignas(64) float lane[16];
  for (int j = 0; j < kVectors; ++j) hn::StoreU(sums[j], d, lane + j * kLanes);
  for (int width = 8; width >= 1; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  *m = hn::GetLane(top);
  *l = lane[0];
}

// acc[row, columns] of R rows for N vectors of channel pairs from `pair` on; first and second channels of each vector's
// pairs are kept apart. p: [R, 128].
template <int R, int N, class D>
HWY_INLINE void accumulate_columns(D du, const BFloat16* const* v, const std::int32_t* HWY_RESTRICT visible,
                                   const float* HWY_RESTRICT p, std::int64_t value_dim, std::int64_t pair,
                                   Fetcher& fetcher, std::int64_t fetch, float* HWY_RESTRICT acc) {
  const hn::RebindToFloat<D> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::MaxLanes(du));
  V sum[R][2 * N];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < 2 * N; ++c) sum[r][c] = hn::Zero(d);
  const std::int64_t common = visible[0];
  for (std::int64_t token = 0; token < common; ++token) {
    fetcher.step(fetch);
    const std::uint32_t* HWY_RESTRICT value = reinterpret_cast<const std::uint32_t*>(v[token]) + pair;
    V weight[R];
    for (int r = 0; r < R; ++r) weight[r] = hn::Set(d, p[r * kTokens + token]);
    for (int c = 0; c < N; ++c) {
      const auto pairs = hn::LoadU(du, value + c * lanes);
      const V first = first_of_pair(pairs), second = second_of_pair(pairs);
      for (int r = 0; r < R; ++r) {
        sum[r][2 * c] = hn::MulAdd(weight[r], first, sum[r][2 * c]);
        sum[r][2 * c + 1] = hn::MulAdd(weight[r], second, sum[r][2 * c + 1]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    // Tokens that this row sees and the first row does not.
    for (std::int64_t token = common; token < visible[r]; ++token) {
      const std::uint32_t* HWY_RESTRICT value = reinterpret_cast<const std::uint32_t*>(v[token]) + pair;
      const V weight = hn::Set(d, p[r * kTokens + token]);
      for (int c = 0; c < N; ++c) {
        const auto pairs = hn::LoadU(du, value + c * lanes);
        sum[r][2 * c] = hn::MulAdd(weight, first_of_pair(pairs), sum[r][2 * c]);
        sum[r][2 * c + 1] = hn::MulAdd(weight, second_of_pair(pairs), sum[r][2 * c + 1]);
      }
    }
    for (int c = 0; c < 2 * N; ++c) hn::StoreU(sum[r][c], d, acc + r * value_dim + 2 * pair + c * lanes);
  }
}

template <int R>
HWY_NOINLINE void accumulate(const BFloat16* const* v, const std::int32_t* visible, const float* p,
                             std::int64_t value_dim, Fetcher& fetcher, std::int64_t fetch, float* acc) {
  const std::int64_t pairs = value_dim / 2;
  std::int64_t pair = 0;
  constexpr int kVectors = kColumnVectors<R>;
  for (; pair + kVectors * kLanes <= pairs; pair += kVectors * kLanes)
    accumulate_columns<R, kVectors>(DU(), v, visible, p, value_dim, pair, fetcher, fetch, acc);
  for (; pair + kLanes <= pairs; pair += kLanes)
    accumulate_columns<R, 1>(DU(), v, visible, p, value_dim, pair, fetcher, fetch, acc);
  for (; pair + 4 <= pairs; pair += 4)
    accumulate_columns<R, 1>(hn::CappedTag<std::uint32_t, 4>(), v, visible, p, value_dim, pair, fetcher, fetch, acc);
  for (; pair < pairs; ++pair)
    accumulate_columns<R, 1>(hn::CappedTag<std::uint32_t, 1>(), v, visible, p, value_dim, pair, fetcher, fetch, acc);
}

// What the rows of a block share: vectors as bf16, and the scales of those that are integers.
struct Vectors {
  const BFloat16* k[kTokens];
  const BFloat16* v[kTokens];
  const float* k_scale = nullptr;  // [128], or null
  const float* v_scale = nullptr;
};

// x[i] *= scale[i] for all that softmax_of and accumulate may read.
HWY_INLINE void multiply(float* HWY_RESTRICT x, const float* HWY_RESTRICT scale, std::int64_t count) {
  const DF d;
  for (std::int64_t i = 0; i < count; i += kLanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, scale + i)), d, x + i);
}

// Integers to the bf16 that equals them: they have no more than the eight bits it holds.
HWY_INLINE void widen(const std::int8_t* HWY_RESTRICT from, std::int64_t count, BFloat16* HWY_RESTRICT to) {
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<std::int8_t, DF> d8;
  const hn::Rebind<std::uint16_t, DF> d16;
  const DU du;
  std::int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::Repartition<std::uint16_t, DF> both;  // the upper halves of floats
  auto upper = [&](std::int64_t at) {
    return hn::BitCast(both, hn::ConvertTo(DF(), hn::PromoteTo(di, hn::LoadU(d8, from + at))));
  };
  for (; i + 2 * kLanes <= count; i += 2 * kLanes)
    hn::StoreU(hn::ConcatOdd(both, upper(i + kLanes), upper(i)), both, reinterpret_cast<std::uint16_t*>(to) + i);
#endif
  for (; i + kLanes <= count; i += kLanes) {
    const VF x = hn::ConvertTo(DF(), hn::PromoteTo(di, hn::LoadU(d8, from + i)));
    hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(hn::BitCast(du, x))), d16,
               reinterpret_cast<std::uint16_t*>(to) + i);
  }
  for (; i < count; ++i) to[i] = to_bfloat16(static_cast<float>(from[i]));
}

void widen_rows(const void* const* rows, std::int64_t tokens, std::int64_t channels, BFloat16* memory,
                const BFloat16** out) {
  for (std::int64_t token = 0; token < tokens; ++token) {
    BFloat16* to = memory + token * channels;
    widen(static_cast<const std::int8_t*>(rows[token]), channels, to);
    out[token] = to;
  }
}

template <int R>
void logits_and_p(const QueryBlock& block, std::int64_t row, const std::uint32_t* keys, const Vectors& vectors,
                  float* p, Fetcher& fetcher, Partial out) {
  const std::int32_t* visible = block.visible + row;
  const std::int64_t head_dim = block.head_dim, seen = visible[R - 1];
  const std::int64_t passes = ceil_div(seen, kLanes * kTokenVectors<R>) * head_dim / 2;
  logits_of<R>(block.q + row * head_dim, keys, seen, head_dim, fetcher, ceil_div(fetcher.left() / 2, passes), p);
  for (int r = 0; r < R; ++r) {
    if (vectors.k_scale) multiply(p + r * kTokens, vectors.k_scale, visible[r]);
    softmax_of(p + r * kTokens, visible[r], out.m + row + r, out.l + row + r);
    if (vectors.v_scale) multiply(p + r * kTokens, vectors.v_scale, visible[r]);
  }
}

template <int R>
void attend_rows(const QueryBlock& block, std::int64_t row, const std::uint32_t* keys, const Vectors& vectors, float* p,
                 Fetcher& fetcher, Partial out) {
  logits_and_p<R>(block, row, keys, vectors, p, fetcher, out);
  const std::int32_t* visible = block.visible + row;
  const std::int64_t columns = ceil_div(block.value_dim / 2, kColumnVectors<R> * kLanes);
  accumulate<R>(vectors.v, visible, p, block.value_dim, fetcher, ceil_div(fetcher.left(), visible[0] * columns),
                out.acc + row * block.value_dim);
}

void attend_split(const Split& split, const Split* next, const QueryBlock& block, float* scratch, Partial out) {
  std::uint32_t* keys = reinterpret_cast<std::uint32_t*>(scratch);
  float* p = scratch + block.head_dim / 2 * kTokens;
  const bool integers = block.type == KvType::int8;
  const std::int64_t element = integers ? 1 : 2, tokens = split.tokens;
  Fetcher fetcher(split, next, element * block.value_dim, element * block.head_dim);
  const std::int64_t loads = ceil_div(tokens, kLanes) * ceil_div(block.head_dim, 8);
  Vectors vectors;
  if (integers) {
    float* scales = p + block.rows * kTokens;  // [2, 128]
    BFloat16* wide = reinterpret_cast<BFloat16*>(scales + 2 * kTokens);
    widen_rows(split.k, tokens, block.head_dim, wide, vectors.k);
    // The values are read whole before the rows: all their lines are asked for meanwhile.
    const std::int64_t lines = tokens * ceil_div(block.value_dim, 64);
    transpose_keys(vectors.k, tokens, block.head_dim, fetcher, ceil_div(lines, loads), keys);
    if (split.v[0] == split.k[0])
      std::copy_n(vectors.k, tokens, vectors.v);
    else
      widen_rows(split.v, tokens, block.value_dim, wide + tokens * block.head_dim, vectors.v);
    for (std::int64_t i = 0; i < kTokens; ++i) {
      scales[i] = i < tokens ? *split.k_scale[i] : 0.0f;
      scales[kTokens + i] = i < tokens ? *split.v_scale[i] : 0.0f;
    }
    vectors.k_scale = scales;
    vectors.v_scale = scales + kTokens;
  } else {
    for (std::int64_t i = 0; i < tokens; ++i) {
      vectors.k[i] = static_cast<const BFloat16*>(split.k[i]);
      vectors.v[i] = static_cast<const BFloat16*>(split.v[i]);
    }
    transpose_keys(vectors.k, tokens, block.head_dim, fetcher, ceil_div(fetcher.left() * 3 / 10, loads), keys);
  }
  std::int64_t row = 0;
  for (; row + kRows <= block.rows; row += kRows) attend_rows<kRows>(block, row, keys, vectors, p, fetcher, out);
  switch (block.rows - row) {
    case 3:
      attend_rows<3>(block, row, keys, vectors, p, fetcher, out);
      break;
    case 2:
      attend_rows<2>(block, row, keys, vectors, p, fetcher, out);
      break;
    case 1:
      attend_rows<1>(block, row, keys, vectors, p, fetcher, out);
      break;
    default:
      break;
  }
}

void merge(std::int64_t rows, std::int64_t value_dim, Partial a, Partial b) {
  const DF d;
  alignas(64) float weight_a[kRowPadding], weight_b[kRowPadding];
  for (std::int64_t first = 0; first < rows; first += kRowPadding) {
    for (std::int64_t i = first; i < first + kRowPadding; i += kLanes) {
      const VF ma = hn::LoadU(d, a.m + i), mb = hn::LoadU(d, b.m + i);
      const VF m = hn::Max(ma, mb);
      const VF wa = exp2_of(hn::Sub(ma, m)), wb = exp2_of(hn::Sub(mb, m));
      hn::StoreU(m, d, a.m + i);
      hn::StoreU(hn::MulAdd(hn::LoadU(d, b.l + i), wb, hn::Mul(hn::LoadU(d, a.l + i), wa)), d, a.l + i);
      hn::StoreU(wa, d, weight_a + i - first);
      hn::StoreU(wb, d, weight_b + i - first);
    }
    for (std::int64_t row = first; row < std::min(first + kRowPadding, rows); ++row) {
      const float wa = weight_a[row - first], wb = weight_b[row - first];
      float* HWY_RESTRICT into = a.acc + row * value_dim;
      const float* HWY_RESTRICT from = b.acc + row * value_dim;
      std::int64_t i = 0;
      for (; i + kLanes <= value_dim; i += kLanes)
        hn::StoreU(hn::MulAdd(hn::LoadU(d, from + i), hn::Set(d, wb), hn::Mul(hn::LoadU(d, into + i), hn::Set(d, wa))),
                   d, into + i);
      const hn::CappedTag<float, 1> d1;
      for (; i < value_dim; ++i)
        hn::StoreU(
            hn::MulAdd(hn::LoadU(d1, from + i), hn::Set(d1, wb), hn::Mul(hn::LoadU(d1, into + i), hn::Set(d1, wa))), d1,
            into + i);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// Undoes the order that accumulate() left the channels in.
template <class D>
HWY_INLINE void write_columns(D d, const float* HWY_RESTRICT acc, float l, float* HWY_RESTRICT out) {
  const auto divisor = hn::Set(d, l);
  const std::size_t lanes = hn::MaxLanes(d);
  const auto first = hn::Div(hn::LoadU(d, acc), divisor), second = hn::Div(hn::LoadU(d, acc + lanes), divisor);
  hn::StoreInterleaved2(first, second, d, out);
}
#endif

void write_out(std::int64_t rows, std::int64_t value_dim, Partial partial, float* out, std::int64_t stride) {
  const std::int64_t pairs = value_dim / 2;
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* acc = partial.acc + row * value_dim;
    float* to = out + row * stride;
    std::int64_t pair = 0;
#if HWY_TARGET != HWY_SCALAR
    for (; pair + kLanes <= pairs; pair += kLanes) write_columns(DF(), acc + 2 * pair, partial.l[row], to + 2 * pair);
    for (; pair + 4 <= pairs; pair += 4)
      write_columns(hn::CappedTag<float, 4>(), acc + 2 * pair, partial.l[row], to + 2 * pair);
#endif
    for (; pair < pairs; ++pair) {
      to[2 * pair] = acc[2 * pair] / partial.l[row];
      to[2 * pair + 1] = acc[2 * pair + 1] / partial.l[row];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace vortex::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vortex::attention {

HWY_EXPORT(attend_split);
HWY_EXPORT(merge);
HWY_EXPORT(write_out);

void attend_split(const Split& split, const Split* next, const QueryBlock& block, float* scratch, Partial out) {
  HWY_DYNAMIC_DISPATCH(attend_split)(split, next, block, scratch, out);
}
void merge(std::int64_t rows, std::int64_t value_dim, Partial a, Partial b) {
  HWY_DYNAMIC_DISPATCH(merge)(rows, value_dim, a, b);
}
void write_out(std::int64_t rows, std::int64_t value_dim, Partial partial, float* out, std::int64_t stride) {
  HWY_DYNAMIC_DISPATCH(write_out)(rows, value_dim, partial, out, stride);
}
}  // namespace vortex::attention
#endif
