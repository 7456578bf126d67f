// A token drawn from each row of logits: temperature, then the likeliest top_k, the fewest likeliest that weigh top_p
// of those, those of at least min_p of the likeliest. All three cut the order of logits (ties: the lower token first)
// at one place, which is found by counting tokens and weights in eight parts of a range of keys again and again; the
// draw is the first token, in ascending order, at which the sum of weights exceeds the given share of them. Weights are
// whole numbers, so that no sum depends on the order of threads. Reads the row from the second cache.
#pragma once

#include "device/cuda/async.cuh"
#include "kernels/cuda/model_arguments.h"

namespace vortex::cuda {

constexpr int kDrawThreads = 512, kDrawWarps = kDrawThreads / 32, kFewTokens = 256;
using Whole = unsigned long long;  // a weight in units of 2⁻⁴⁰

// A number, or −inf, as an unsigned number of the same order; −0 as 0.
__device__ inline unsigned key_of(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float number_of(unsigned key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

struct DrawScratch {
  Whole sums[8][kDrawWarps];
  int counts[8][kDrawWarps];
  Whole before[kDrawWarps];
  unsigned keys[kFewTokens];
  int tokens[kFewTokens];
  int few;
  // What one thread found for all.
  unsigned key;
  int equal, token;
};

// Tokens that are kept: those of higher keys, and the first `equal` of this one.
struct Cut {
  unsigned key;
  int equal;
};

struct DrawnRow {
  const float* logits;
  int vocabulary;
  float peak, slope;
  DrawScratch& scratch;

  __device__ Whole weight_of(float logit) const {
    return __float2ull_rn(expf(slope * (logit - peak)) * 1099511627776.0f);
  }
  // use(token, logit): all tokens, neighbours by neighbouring threads.
  template <class Use>
  __device__ void each(const Use& use) const {
    const float4* const four = reinterpret_cast<const float4*>(logits);
#pragma unroll 4
    for (int i = threadIdx.x; i < vocabulary / 4; i += kDrawThreads) {
      const float4 x = four[i];
      use(4 * i, x.x), use(4 * i + 1, x.y), use(4 * i + 2, x.z), use(4 * i + 3, x.w);
    }
  }
  __device__ Whole sum(Whole x) const {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch.before[threadIdx.x / 32] = x;
    __syncthreads();
    Whole all = 0;
    for (int warp = 0; warp < kDrawWarps; ++warp) all += scratch.before[warp];
    return all;
  }

  // Where the order is cut: the fewest likeliest tokens that are `need`, or with kWeigh weigh as much.
  template <bool kWeigh>
  __device__ Cut cut(Whole need) const {
    unsigned low = 0;
    int bits = 32;
    Whole above = 0;  // of keys past the range
    while (bits > 0) {
      const int shift = max(bits - 3, 0), parts = 1 << (bits - shift);
      Whole sums[8] = {};
      int counts[8] = {};
      each([&](int, float logit) {
        const unsigned key = key_of(logit);
        if (key < low || (bits < 32 && (key - low) >> bits != 0)) return;
        const unsigned part = (key - low) >> shift;
        const Whole weight = kWeigh ? weight_of(logit) : 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (part != i) continue;
          ++counts[i];
          if (kWeigh) sums[i] += weight;
        }
      });
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        for (int step = 16; step > 0; step /= 2) {
          counts[i] += __shfl_xor_sync(0xffffffffu, counts[i], step);
          if (kWeigh) sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], step);
        }
        if (threadIdx.x % 32 == 0)
          scratch.counts[i][threadIdx.x / 32] = counts[i], scratch.sums[i][threadIdx.x / 32] = sums[i];
      }
      __syncthreads();
      int part = parts - 1, count = 0;
      for (;; --part) {
        count = 0;
        Whole weight = 0;
        for (int warp = 0; warp < kDrawWarps; ++warp) {
          count += scratch.counts[part][warp];
          if (kWeigh) weight += scratch.sums[part][warp];
        }
        const Whole of_part = kWeigh ? weight : static_cast<Whole>(count);
        if (part == 0 || above + of_part >= need) break;
        above += of_part;
      }
      low += static_cast<unsigned>(part) << shift, bits = shift;
      __syncthreads();
      if (count <= kFewTokens) break;
    }
    if (threadIdx.x == 0) scratch.few = 0;
    __syncthreads();
    if (bits == 0) return among_equals<kWeigh>(low, need - above);
    // Few are left: each is ranked among them.
    each([&](int token, float logit) {
      const unsigned key = key_of(logit);
      if (key < low || (bits < 32 && (key - low) >> bits != 0)) return;
      const int place = atomicAdd(&scratch.few, 1);
      scratch.keys[place] = key, scratch.tokens[place] = token;
    });
    __syncthreads();
    const int few = scratch.few;
    if (threadIdx.x < few) {
      const unsigned key = scratch.keys[threadIdx.x];
      const int token = scratch.tokens[threadIdx.x];
      const auto measure = [&](unsigned of) { return kWeigh ? weight_of(number_of(of)) : Whole{1}; };
      Whole before = above;
      int equal = 1, likelier = 0;
      for (int i = 0; i < few; ++i) {
        const bool first = scratch.keys[i] == key && scratch.tokens[i] < token;
        if (scratch.keys[i] > key || first) before += measure(scratch.keys[i]), ++likelier;
        equal += first ? 1 : 0;
      }
      const bool last = likelier == few - 1;
      if (before < need && (before + measure(key) >= need || last)) scratch.key = key, scratch.equal = equal;
    }
    __syncthreads();
    return {scratch.key, scratch.equal};
  }

  // So many tokens of one key that it takes to make up `need`.
  template <bool kWeigh>
  __device__ Cut among_equals(unsigned key, Whole need) const {
    const Whole each = kWeigh ? weight_of(number_of(key)) : 1;
    if (each == 0) return {key, 1};
    return {key, static_cast<int>((need + each - 1) / each)};
  }

  __device__ Whole weight_of_kept(const Cut& cut) const {
    Whole mine = 0;
    int equal = 0;
    each([&](int, float logit) {
      const unsigned key = key_of(logit);
      if (key > cut.key) mine += weight_of(logit);
      if (key == cut.key) ++equal;
    });
    const Whole equals = sum(static_cast<Whole>(equal));
    return sum(mine) + weight_of(number_of(cut.key)) * (equals < cut.equal ? equals : cut.equal);
  }

  // The token at which the sum of weights passes the share `uniform`: a thread has neighbouring tokens.
  __device__ int token_at(const Cut& cut, float least, double uniform) const {
    const int of_thread = (vocabulary + kDrawThreads - 1) / kDrawThreads;
    const int from = min(static_cast<int>(threadIdx.x) * of_thread, vocabulary), to = min(from + of_thread, vocabulary);
    const auto weighs = [&](float logit, int& equals) -> Whole {
      const unsigned key = key_of(logit);
      if (key < cut.key || slope * (logit - peak) < least) return 0;
      if (key == cut.key && equals++ >= cut.equal) return 0;
      return weight_of(logit);
    };
    int mine = 0;
    for (int i = from; i < to; ++i) mine += key_of(logits[i]) == cut.key ? 1 : 0;
    Whole all;
    const int before = static_cast<int>(sum_of_those_before(static_cast<Whole>(mine), all));
    Whole weight = 0;
    int equals = before;
    for (int i = from; i < to; ++i) weight += weighs(logits[i], equals);
    const Whole lighter = sum_of_those_before(weight, all);
    const double target = uniform * static_cast<double>(all);
    if (threadIdx.x == 0) scratch.token = -1;
    __syncthreads();
    // Rounding may leave the target at the very end: the last token that weighs anything is the last thread's that
    // does.
    const bool ends = weight > 0 && lighter + weight == all;
    if (weight > 0 && static_cast<double>(lighter) <= target &&
        (static_cast<double>(lighter + weight) > target || ends)) {
      Whole sum = lighter;
      equals = before;
      int found = -1;
      for (int i = from; i < to; ++i) {
        const Whole of = weighs(logits[i], equals);
        if (of == 0) continue;
        found = i, sum += of;
        if (static_cast<double>(sum) > target) break;
      }
      scratch.token = found;
    }
    __syncthreads();
    return scratch.token;
  }
  __device__ Whole sum_of_those_before(Whole mine, Whole& all) const {
    Whole with_mine = mine;
    for (int step = 1; step < 32; step *= 2) {
      const Whole other = __shfl_up_sync(0xffffffffu, with_mine, step);
      if (threadIdx.x % 32 >= step) with_mine += other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 31) scratch.before[threadIdx.x / 32] = with_mine;
    __syncthreads();
    Whole before = 0;
    all = 0;
    for (int warp = 0; warp < kDrawWarps; ++warp) {
      if (warp < threadIdx.x / 32) before += scratch.before[warp];
      all += scratch.before[warp];
    }
    return before + with_mine - mine;
  }
};

// After `choose`, whose tokens are those of rows that draw nothing. grid: count; block: 512
extern "C" __global__ void __launch_bounds__(kDrawThreads, 1) draw(DrawArguments a) {
  __shared__ DrawScratch scratch;
  let_next_start();
  wait_for_earlier();
  const Draw wanted = a.draws[blockIdx.x];
  const ChosenToken likeliest = a.chosen[blockIdx.x];
  if (wanted.slope <= 0.0f || likeliest.token < 0) return;
  const float* const logits = a.logits + blockIdx.x * a.stride;
  const DrawnRow row{logits, a.vocabulary, logits[likeliest.token], wanted.slope, scratch};
  Cut cut{key_of(-infinity()), a.vocabulary};  // those that are banned weigh nothing
  const bool some = wanted.top_k > 0 && wanted.top_k < a.vocabulary;
  if (some) cut = row.cut<false>(static_cast<Whole>(wanted.top_k));
  if (wanted.top_p < 1.0f) {
    const double enough = static_cast<double>(wanted.top_p) * static_cast<double>(row.weight_of_kept(cut));
    const Whole need = __double2ull_ru(enough);
    cut = row.cut<true>(need > 0 ? need : 1);
  }
  const int token = row.token_at(cut, wanted.least, wanted.uniform);
  if (threadIdx.x == 0 && token >= 0) a.chosen[blockIdx.x] = {token, logits[token] - row.peak + likeliest.logprob};
}

}  // namespace vortex::cuda
