// Sets of pages from one number a page: top_k and top_p over all candidates of a row, by a whole block. The smallest
// chosen key is found by adding up measures (1 a page, or its weight) in bins over the keys' range, and again over the
// bin that holds it. Weights are added as whole numbers, so a set does not depend on the order of threads.
#pragma once

#include "device/cuda/device.cuh"

namespace vortex::cuda {

constexpr int kChoiceBins = 1024;
using Measure = unsigned long long;

constexpr int kFewChoices = 256;  // keys that are ranked one against another
constexpr int kKeptChoices = 8;   // keys of a thread in registers; those after them are read again

struct ChoiceScratch {
  Measure bins[kChoiceBins];
  Measure totals[32], wanted, of_bin;
  unsigned low[32], high[32], next_low, next_high, few_keys[kFewChoices];
  int equal[32], few;
};
__device__ inline ChoiceScratch& choice_scratch() {
  __shared__ ChoiceScratch scratch;
  return scratch;
}

// A float as an unsigned number of the same order; NaN below all, −0 as 0.
__device__ inline unsigned key_in_order(float x) {
  if (x != x) return 0u;
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The keys of a thread that count: of candidates thread, thread + size, ...
template <class Counts>
struct KeptKeys {
  const Counts& counts;
  int thread, size, n;
  unsigned kept[kKeptChoices], there = 0;
  __device__ KeptKeys(const Block& team, int all, const Counts& of)
      : counts(of), thread(team.thread), size(team.size), n(all) {
#pragma unroll
    for (int k = 0; k < kKeptChoices; ++k) {
      kept[k] = 0u;
      if (counts(k * size + thread, kept[k])) there |= 1u << k;
    }
  }
  __device__ bool has(int k) const { return (there >> k & 1u) != 0; }
  template <class Use>
  __device__ void each(const Use& use) const {
#pragma unroll
    for (int k = 0; k < kKeptChoices; ++k)
      if (has(k)) use(kept[k]);
    unsigned key;
    for (int i = kKeptChoices * size + thread; i < n; i += size)
      if (counts(i, key)) use(key);
  }
};

// Candidates in the order of their keys, ties to the lower index, for as long as the measures before one sum to less
// than `target`, which is at most the sum of all. Those that are not inside do not count. key_of(i), measure_of(key):
// not 0 for some key, and for every key that is chosen. put(i, 1 or 0) for each candidate, by the thread that asks for
// its key. Sum: a whole number that holds all measures together.
template <class Sum, class Key, class MeasureOf, class Put, class Inside>
__device__ inline void choose_by(const Block& team, ChoiceScratch& s, int n, Sum target, Key key_of,
                                 MeasureOf measure_of, Put put, Inside inside) {
  const int thread = team.thread, lane = thread % 32, warp = thread / 32, warps = team.size / 32;
  Sum* const bins = reinterpret_cast<Sum*>(s.bins);
  Sum* const totals = reinterpret_cast<Sum*>(s.totals);
  const auto counts = [&](int i, unsigned& key) {
    if (i >= n || !inside(i)) return false;
    key = key_of(i);
    return measure_of(key) != 0;
  };
  const KeptKeys keys(team, n, counts);

  unsigned low = 0xffffffffu, high = 0;
  keys.each([&](unsigned key) { low = min(low, key), high = max(high, key); });
  for (int step = 16; step > 0; step /= 2) {
    low = min(low, __shfl_xor_sync(0xffffffffu, low, step));
    high = max(high, __shfl_xor_sync(0xffffffffu, high, step));
  }
  if (lane == 0) s.low[warp] = low, s.high[warp] = high;
  for (int i = thread; i < kChoiceBins; i += team.size) bins[i] = 0;
  if (thread == 0) s.few = 0;
  __syncthreads();
  for (int w = 0; w < warps; ++w) low = min(low, s.low[w]), high = max(high, s.high[w]);
  Sum of_bin = 0;  // of the keys equal to the smallest chosen one; 0: all keys are equal
  bool were_many = false;
  while (low != high) {
    const int bits = 32 - __clz(static_cast<int>(high - low)), shift = bits > 10 ? bits - 10 : 0;
    keys.each([&](unsigned key) {
      if (low <= key && key <= high) atomicAdd(&bins[(key - low) >> shift], measure_of(key));
    });
    __syncthreads();
    // A thread has a few bins, the highest first.
    const int count = kChoiceBins / team.size, top = kChoiceBins - 1 - thread * count;
    Sum mine = 0;
    for (int i = 0; i < count; ++i) mine += bins[top - i];
    Sum above = mine;
    for (int step = 1; step < 32; step *= 2) {
      const Sum other = __shfl_up_sync(0xffffffffu, above, step);
      if (lane >= step) above += other;
    }
    if (lane == 31) totals[warp] = above;
    __syncthreads();
    above -= mine;
    for (int w = 0; w < warp; ++w) above += totals[w];
    for (int i = 0; i < count; ++i) {
      const Sum bin = bins[top - i];
      bins[top - i] = 0;
      if (above < target && target <= above + bin) {
        const unsigned begin = low + (static_cast<unsigned>(top - i) << shift);
        s.next_low = begin, s.next_high = begin + min(high - begin, (1u << shift) - 1u);
        s.wanted = target - above, s.of_bin = bin;
      }
      above += bin;
    }
    __syncthreads();
    low = s.next_low, high = s.next_high;
    target = static_cast<Sum>(s.wanted), of_bin = static_cast<Sum>(s.of_bin);
    const bool is_many = sizeof(Sum) == 4 ? of_bin > kFewChoices : were_many;  // a measure of 4 bytes counts keys
    were_many = false;
    if (low == high || is_many) continue;
    // Where few are left, each finds its own place among them.
    keys.each([&](unsigned key) {
      if (key < low || high < key) return;
      const int place = atomicAdd(&s.few, 1);
      if (place < kFewChoices) s.few_keys[place] = key;
    });
    __syncthreads();
    const int few = s.few;
    were_many = few > kFewChoices;
    for (int i = thread; !were_many && i < few; i += team.size) {
      const unsigned key = s.few_keys[i];
      Sum larger = 0, alike = 0;
      for (int k = 0; k < few; ++k) {
        const unsigned other = s.few_keys[k];
        if (other > key) larger += measure_of(other);
        if (other == key) alike += measure_of(other);
      }
      if (larger < target && target <= larger + alike) s.next_low = key, s.wanted = target - larger, s.of_bin = alike;
    }
    __syncthreads();
    if (thread == 0) s.few = 0;
    if (!were_many) low = high = s.next_low, target = static_cast<Sum>(s.wanted), of_bin = static_cast<Sum>(s.of_bin);
  }
  const Sum of_key = measure_of(low);
  const Sum left = (target + of_key - 1) / of_key;  // of the keys equal to it, those of the lowest indices
  if (of_bin != 0 && of_bin <= left * of_key) {
#pragma unroll
    for (int k = 0; k < kKeptChoices; ++k)
      if (k * team.size + thread < n) put(k * team.size + thread, keys.has(k) && keys.kept[k] >= low ? 1.0f : 0.0f);
    unsigned key = 0;
    for (int i = kKeptChoices * team.size + thread; i < n; i += team.size)
      put(i, counts(i, key) && key >= low ? 1.0f : 0.0f);
    return;
  }
  Sum before = 0;
  for (int first = 0; first < n; first += team.size) {
    const int i = first + thread;
    unsigned key = 0;
    const bool is_there = counts(i, key), equal = is_there && key == low;
    const unsigned votes = __ballot_sync(0xffffffffu, equal);
    if (lane == 0) s.equal[warp] = __popc(votes);
    __syncthreads();
    Sum here = before + __popc(votes & ((1u << lane) - 1u));
    for (int w = 0; w < warps; ++w) {
      if (w < warp) here += s.equal[w];
      before += s.equal[w];
    }
    __syncthreads();
    if (i < n) put(i, (is_there && key > low) || (equal && here < left) ? 1.0f : 0.0f);
  }
}

// The sum over the block of one whole number a thread.
__device__ inline Measure sum_of_measures(const Block& team, ChoiceScratch& s, Measure mine) {
  for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, step);
  if (team.thread % 32 == 0) s.totals[team.thread / 32] = mine;
  __syncthreads();
  Measure sum = 0;
  for (int w = 0; w < team.size / 32; ++w) sum += s.totals[w];
  __syncthreads();
  return sum;
}

// Candidates [0, n) of a row: their numbers, where a set goes, and who is in it at all (null: everybody). `from` may be
// `to`: a candidate is one thread's alone, thread i % size. Functions of their own: their text is long, and rows have
// several sets.
struct Choice {
  const float* from;
  float* to;
  const float* within;
  int n;
  __device__ bool inside(int i) const { return within == nullptr || within[i] != 0.0f; }
  __device__ void all(const Block& team, bool in_set) const {
    for (int i = team.thread; i < n; i += team.size) to[i] = in_set && inside(i) ? 1.0f : 0.0f;
  }
};

__device__ __noinline__ void choose_top_k(const Block& team, int n, float amount, const float* from, float* to,
                                          const float* within = nullptr) {
  const Choice c{from, to, within, n};
  ChoiceScratch& s = choice_scratch();
  int all = n;
  if (within != nullptr) {
    Measure mine = 0;
    for (int i = team.thread; i < n; i += team.size) mine += c.inside(i) ? 1u : 0u;
    all = static_cast<int>(sum_of_measures(team, s, mine));
  }
  if (!(amount >= 1.0f)) return c.all(team, false);
  if (amount >= static_cast<float>(all)) return c.all(team, true);
  choose_by<unsigned>(
      team, s, n, static_cast<unsigned>(amount), [&](int i) { return key_in_order(from[i]); },
      [](unsigned) { return 1u; }, [&](int i, float in_set) { to[i] = in_set; }, [&](int i) { return c.inside(i); });
}

__device__ __noinline__ void choose_top_p(const Block& team, int n, float share, const float* from, float* to,
                                          const float* within = nullptr) {
  constexpr float kOne = 8796093022208.0f;  // 2^43: sums of 2^20 weights fit
  const Choice c{from, to, within, n};
  ChoiceScratch& s = choice_scratch();
  const auto weight_of = [&](int i) { return from[i] > 0.0f ? from[i] : 0.0f; };
  float top = 0.0f;
  for (int i = team.thread; i < n; i += team.size)
    if (c.inside(i)) top = fmaxf(top, weight_of(i));
  top = team.max(top);
  const auto measure_of = [&](unsigned key) -> Measure {
    const float weight = __uint_as_float(key);
    if (isinf(top)) return isinf(weight) ? 1u : 0u;
    return key == 0u ? 0u : 1u + static_cast<Measure>(weight / top * kOne);
  };
  const auto key_of = [&](int i) { return __float_as_uint(weight_of(i)); };
  Measure mine = 0;
  for (int i = team.thread; i < n; i += team.size)
    if (c.inside(i)) mine += measure_of(key_of(i));
  const Measure total = sum_of_measures(team, s, mine);
  const double target =
      isinf(top) ? (share > 0.0f ? 1.0 : 0.0) : static_cast<double>(share) * static_cast<double>(total);
  if (!(target > 0.0)) return c.all(team, false);
  if (target > static_cast<double>(total)) return c.all(team, true);
  choose_by<Measure>(
      team, s, n, min(static_cast<Measure>(ceil(target)), total), key_of, measure_of,
      [&](int i, float in_set) { to[i] = in_set; }, [&](int i) { return c.inside(i); });
}

}  // namespace vortex::cuda
