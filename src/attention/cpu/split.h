// The arithmetic of attention, defined once for decode and prefill: one split of at most 128 tokens against a block of
// query rows, and the merge of two partial results. What a row gets depends on its q and the tokens it sees, not on the
// other rows of the block nor on the vector width:
//   logit   one fused multiply-add a channel, channels ascending
//   m       the largest logit of the visible tokens
//   p       2^(logit - m), logits being in units of log2(e)
//   l       16 interleaved sums of p (token mod 16), then pairwise: (0+8, 1+9, ..), (0+4, ..), (0+2, ..), (0+1)
//   acc     one fused multiply-add a token, tokens ascending
//   merge   m = max(m1, m2), wi = 2^(mi - m), l = l1·w1 + l2·w2 and acc likewise, as fma(second, w2, first·w1)
// Where the processor has no fused multiply-add (x86 before AVX2) the product is rounded first. Knows no pages: tokens
// come as pointers.
// Stored as int8, a vector is integers and a scale: its logit is the chain over the integers times the scale of the
// key, and p is multiplied by the scale of the value, once it is in l.
#pragma once

#include <cstdint>

#include "attention/types.h"
#include "base/float16.h"

namespace vortex::attention {

inline constexpr std::int64_t kSplitTokens = 128;

// Rows of m and l are padded to this many.
inline constexpr std::int64_t kRowPadding = 16;
inline std::int64_t padded_rows(std::int64_t rows) { return (rows + kRowPadding - 1) / kRowPadding * kRowPadding; }

struct Split {
  const void* k[kSplitTokens];         // [tokens] of [head_dim], BFloat16 or int8
  const void* v[kSplitTokens];         // [tokens] of [value_dim]
  const float* k_scale[kSplitTokens];  // [tokens] of the token's scale, int8
  const float* v_scale[kSplitTokens];
  std::int64_t tokens = 0;  // 1 .. 128
};

// A block of query rows that share K and V.
struct QueryBlock {
  std::int64_t rows = 0;
  std::int64_t head_dim = 0, value_dim = 0;
  KvType type = KvType::bfloat16;
  const float* q = nullptr;  // [rows, head_dim], multiplied by scale · log2(e)
  const std::int32_t* visible =
      nullptr;  // [rows] tokens of the split that each row sees, 1 .. tokens, never descending
};

// Softmax numerators not yet divided. acc keeps an order of channels of its own until write_out.
struct Partial {
  float* m = nullptr;    // [padded_rows]
  float* l = nullptr;    // [padded_rows]
  float* acc = nullptr;  // [rows, value_dim]
};

inline std::int64_t partial_floats(std::int64_t rows, std::int64_t value_dim) {
  return 2 * padded_rows(rows) + (rows * value_dim + kRowPadding - 1) / kRowPadding * kRowPadding;
}
inline Partial partial_at(float* memory, std::int64_t rows) {
  return {memory, memory + padded_rows(rows), memory + 2 * padded_rows(rows)};
}

// Floats that attend_split works in: keys by channel, p of the rows, and the integers of a split widened.
inline std::int64_t split_scratch_floats(std::int64_t rows, const Geometry& geometry) {
  const std::int64_t widened = geometry.kv_type == KvType::int8 ? geometry.stored_channels() / 2 + 2 : 0;
  return (geometry.head_dim / 2 + rows + widened) * kSplitTokens;
}

// `next` (or null) is the split to be worked on next: its lines are fetched meanwhile.
void attend_split(const Split&, const Split* next, const QueryBlock&, float* scratch, Partial out);
// a = merge(a, b).
void merge(std::int64_t rows, std::int64_t value_dim, Partial a, Partial b);
// out[row · stride ..] = acc / l, [rows, value_dim].
void write_out(std::int64_t rows, std::int64_t value_dim, Partial, float* out, std::int64_t stride);

}  // namespace vortex::attention
