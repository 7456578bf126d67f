// A token drawn from each row of logits: temperature, then the likeliest top_k, the fewest likeliest that weigh top_p
// of those, those of at least min_p of the likeliest. All three cut the order of logits (ties: the lower token first)
// at one place. A cluster of blocks has a row: each counts and weighs its tokens in bins of what they are short of the
// likeliest, the bins are summed over the cluster, and the one the cut falls into is divided by keys until one key is
// left. The draw is the first token, in ascending order, at which the sum of weights exceeds the given share of them.
// Weights are whole numbers, so that no sum depends on the order of threads. sm_90 and newer; the text is left out on
// older devices, which have no linears either.
#pragma once

#include "device/cuda/async.cuh"
#include "kernels/cuda/model_arguments.h"

namespace vortex::cuda {

constexpr int kDrawBlocks = 8;  // of a cluster
constexpr int kDrawThreads = 256, kDrawWarps = kDrawThreads / 32;

#if __CUDA_ARCH__ >= 900

constexpr int kBins = 2048, kBinsOfBlock = kBins / kDrawBlocks, kMostListed = 2048;
static_assert(kBinsOfBlock <= kDrawThreads);
constexpr float kWeighsNothing = 29.0f;  // nats below the likeliest: a weight below half a unit
using Whole = unsigned long long;        // a weight in units of 2⁻⁴⁰

// A number, or −inf, as an unsigned number of the same order; −0 as 0.
__device__ inline unsigned key_of(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float number_of(unsigned key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}
__device__ inline void meet() {
  cluster_arrive();
  cluster_wait();
}

struct Sum {
  Whole count, weight;
  __device__ void add(const Sum& x) { count += x.count, weight += x.weight; }
};
// The bin a cut falls into: what lies before it in the order of likelihood, and in it.
struct FoundBin {
  int tag, bin;
  Sum before, in;
};
// What the cluster has in this thread's bin and before it, and in all.
struct Merged {
  Sum own, before, all;
};

struct DrawScratch {
  unsigned counts[kBins], low[kBins], high[kBins];  // low, high: 32 bits each of a weight
  unsigned keys[kMostListed];
  int listed;
  unsigned least, most;  // keys of the bin
  Sum of_warp[kDrawWarps];
  // Tokens, in fours, among which the draw is; what lies before them; it.
  int begin, end, token;
  Sum before;
  // Written by the other blocks.
  Sum of_block[kDrawBlocks];
  unsigned least_of[kDrawBlocks], most_of[kDrawBlocks];
  FoundBin found;
};

// Tokens that are kept: those of higher keys, and the first `equal` of this one.
struct Cut {
  unsigned key = 0;
  Whole equal = 0;
};

struct DrawnRow {
  const float4* logits;
  int begin, end;  // of the warp's tokens, in fours
  float peak, slope;
  DrawScratch& scratch;
  int rank, tag = 0;
  int first_listed = 0, last_listed = -1;  // bins whose keys are all in scratch.keys, if they found room

  __device__ DrawnRow(const DrawArguments& a, int row, DrawScratch& of_block)
      : logits(reinterpret_cast<const float4*>(a.logits + row * a.stride)),
        slope(a.draws[row].slope),
        scratch(of_block),
        rank(blockIdx.x % kDrawBlocks) {
    const int fours = a.vocabulary / 4, warps = kDrawBlocks * kDrawWarps;
    const int of_warp = (fours + warps - 1) / warps, warp = rank * kDrawWarps + threadIdx.x / 32;
    begin = min(warp * of_warp, fours), end = min(begin + of_warp, fours);
    peak = reinterpret_cast<const float*>(logits)[a.chosen[row].token];
  }

  __device__ float short_of_peak(float logit) const { return slope * (peak - logit); }
  __device__ static Whole weight_at(float below) { return __float2ull_rn(__expf(-below) * 1099511627776.0f); }
  // In the order of likelihood.
  __device__ static int bin_at(float below) {
    return min(static_cast<int>(below * (kBins / kWeighsNothing)), kBins - 1);
  }

  // use(token, four logits): all lanes at once, −inf past the end.
  template <class Use>
  __device__ void each_four(const Use& use) const {
    constexpr int kAtOnce = 4;
    for (int i = begin; i < end; i += 32 * kAtOnce) {
      float4 x[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int at = i + 32 * k + threadIdx.x % 32;
        x[k] = at < end ? logits[at] : make_float4(-infinity(), -infinity(), -infinity(), -infinity());
      }
#pragma unroll 1
      for (int k = 0; k < kAtOnce; ++k) {
        use(4 * (i + 32 * k + static_cast<int>(threadIdx.x) % 32), x[0]);
#pragma unroll
        for (int next = 1; next < kAtOnce; ++next) x[next - 1] = x[next];  // the text of `use` stands here once
      }
    }
  }
  // use(logit, how far it is short of the peak): those that may weigh something.
  template <class Use>
  __device__ void each(const Use& use) const {
    each_four([&](int, const float4& x) {
      const auto look = [&](float logit) {
        const float below = short_of_peak(logit);
        if (below < kWeighsNothing) use(logit, below);
      };
      look(x.x), look(x.y), look(x.z), look(x.w);
    });
  }

  // ---- Bins ----

  __device__ void clear_bins() {
    for (int i = threadIdx.x; i < kBins; i += kDrawThreads)
      scratch.counts[i] = 0, scratch.low[i] = 0, scratch.high[i] = 0;
    __syncthreads();
  }
  __device__ void put(int bin, float below, bool counts, bool weighs) {
    if (counts) atomicAdd(&scratch.counts[bin], 1u);
    if (!weighs) return;
    const Whole weight = weight_at(below);
    const unsigned low = static_cast<unsigned>(weight), before = atomicAdd(&scratch.low[bin], low);
    const unsigned high = static_cast<unsigned>(weight >> 32) + (before + low < before ? 1 : 0);
    if (high != 0) atomicAdd(&scratch.high[bin], high);
  }
  // What a thread of the block has before it, and what the block has.
  __device__ Sum before_in_block(const Sum& own, Sum& all) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Sum with_own = own;
    for (int step = 1; step < 32; step *= 2) {
      Sum other;
      other.count = __shfl_up_sync(0xffffffffu, with_own.count, step);
      other.weight = __shfl_up_sync(0xffffffffu, with_own.weight, step);
      if (lane >= step) with_own.add(other);
    }
    __syncthreads();
    if (lane == 31) scratch.of_warp[warp] = with_own;
    __syncthreads();
    Sum before = {};
    all = {};
    for (int i = 0; i < kDrawWarps; ++i) {
      if (i < warp) before.add(scratch.of_warp[i]);
      all.add(scratch.of_warp[i]);
    }
    before.count += with_own.count - own.count, before.weight += with_own.weight - own.weight;
    return before;
  }
  // The same over the cluster. Ends with a meeting.
  __device__ Merged merge(const Sum& own) {
    Merged out = {};
    Sum of_block;
    out.own = own;
    out.before = before_in_block(own, of_block);
    if (threadIdx.x < kDrawBlocks) *pointer_in(&scratch.of_block[rank], threadIdx.x) = of_block;
    meet();
    for (int i = 0; i < kDrawBlocks; ++i) {
      if (i < rank) out.before.add(scratch.of_block[i]);
      out.all.add(scratch.of_block[i]);
    }
    return out;
  }
  __device__ Merged merge_bins() {
    meet();
    Sum own = {};
    if (threadIdx.x < kBinsOfBlock) {
      const int bin = rank * kBinsOfBlock + threadIdx.x;
      for (int i = 0; i < kDrawBlocks; ++i) {
        const DrawScratch* const other = pointer_in(&scratch, i);
        own.count += other->counts[bin];
        own.weight += static_cast<Whole>(other->high[bin]) << 32 | other->low[bin];
      }
    }
    return merge(own);
  }
  // The bin in which what lies before comes to `need`; false: all bins together do not. A meeting lies between two.
  __device__ bool find(const Merged& merged, bool by_weight, Whole need, FoundBin& found) {
    ++tag;
    const Whole before = by_weight ? merged.before.weight : merged.before.count;
    const Whole own = by_weight ? merged.own.weight : merged.own.count;
    if (before < need && before + own >= need) {
      const FoundBin mine{tag, rank * kBinsOfBlock + static_cast<int>(threadIdx.x), merged.before, merged.own};
      for (int i = 0; i < kDrawBlocks; ++i) *pointer_in(&scratch.found, i) = mine;
    }
    meet();
    found = scratch.found;
    return found.tag == tag;
  }

  // ---- The cut ----

  // Keys of a bin, or of it and all before it, so long as there is room for them.
  __device__ void list(int first, int last) {
    __syncthreads();
    if (threadIdx.x == 0) scratch.listed = 0;
    __syncthreads();
    each([&](float logit, float below) {
      const int bin = bin_at(below);
      if (bin < first || bin > last) return;
      const int place = atomicAdd(&scratch.listed, 1);
      if (place < kMostListed) scratch.keys[place] = key_of(logit);
    });
    __syncthreads();
    first_listed = first, last_listed = last;
  }
  // use(key, how far it is short of the peak): those of a bin that was listed.
  template <class Use>
  __device__ void each_in(int bin, const Use& use) const {
    const auto look = [&](float logit, float below) {
      if (bin_at(below) == bin) use(key_of(logit), below);
    };
    if (scratch.listed > kMostListed) return each(look);
    for (int i = threadIdx.x; i < scratch.listed; i += kDrawThreads) {
      const float logit = number_of(scratch.keys[i]);
      look(logit, short_of_peak(logit));
    }
  }

  // Where the order is cut, at `need` tokens or weights; in a bin that is known to hold the place. kept: all that
  // stays.
  __device__ Cut cut_in(const FoundBin& bin, bool all_before, bool by_weight, bool weighs, Whole need, Whole& kept) {
    if (bin.bin < first_listed || bin.bin > last_listed) list(all_before ? 0 : bin.bin, bin.bin);
    __syncthreads();
    if (threadIdx.x == 0) scratch.least = 0xffffffffu, scratch.most = 0;
    __syncthreads();
    unsigned least = 0xffffffffu, most = 0;
    each_in(bin.bin, [&](unsigned key, float) { least = min(least, key), most = max(most, key); });
    least = __reduce_min_sync(0xffffffffu, least), most = __reduce_max_sync(0xffffffffu, most);
    if (threadIdx.x % 32 == 0) atomicMin(&scratch.least, least), atomicMax(&scratch.most, most);
    __syncthreads();
    if (threadIdx.x < kDrawBlocks) {
      *pointer_in(&scratch.least_of[rank], threadIdx.x) = scratch.least;
      *pointer_in(&scratch.most_of[rank], threadIdx.x) = scratch.most;
    }
    meet();
    for (int i = 0; i < kDrawBlocks; ++i) least = min(least, scratch.least_of[i]), most = max(most, scratch.most_of[i]);

    // Keys are 2^bits from `from` on, counted down from the largest.
    unsigned from = 0;
    int bits = 32 - __clz(most - least);
    FoundBin last = bin;
    Sum before = bin.before;
    while (bits > 0) {
      const int shift = max(bits - 11, 0);
      clear_bins();
      each_in(bin.bin, [&](unsigned key, float below) {
        const unsigned place = most - key - from;
        if (most - key >= from && (bits == 32 || place >> bits == 0)) put(place >> shift, below, true, weighs);
      });
      const Merged merged = merge_bins();
      find(merged, by_weight, need - (by_weight ? before.weight : before.count), last);
      before.add(last.before);
      from += static_cast<unsigned>(last.bin) << shift, bits = shift;
    }
    Cut out{most - from, 0};
    const Whole each = weight_at(short_of_peak(number_of(out.key)));
    out.equal = by_weight ? (need - before.weight + each - 1) / each : need - before.count;
    kept = before.weight + each * out.equal;
    return out;
  }

  __device__ Cut cut(int top_k, float top_p) {
    Cut out;
    const bool some = top_k > 0, most = top_p < 1.0f;
    if (!some && !most) return out;
    clear_bins();
    each([&](float, float below) { put(bin_at(below), below, some, most); });
    const Merged merged = merge_bins();
    Whole kept = merged.all.weight;
#pragma unroll 1
    for (int by_weight = some ? 0 : 1; by_weight < (most ? 2 : 1); ++by_weight) {
      Whole need = top_k;
      if (by_weight != 0) need = __double2ull_ru(static_cast<double>(top_p) * static_cast<double>(kept));
      if (need == 0) need = 1;
      FoundBin found;
      meet();
      if (!find(merged, by_weight != 0, need, found)) continue;
      constexpr int kFew = 1024;
      out = cut_in(found, by_weight == 0 && top_k <= kFew, by_weight != 0, most, need, kept);
    }
    return out;
  }

  // ---- The token ----

  __device__ Whole weight_of(float logit, float least) const {
    const float below = short_of_peak(logit);
    return -below < least ? 0 : weight_at(below);
  }

  // The token at which the sum of weights passes the share `uniform`, in the one block that has it; −1 in all others.
  __device__ int token_at(const Cut& cut, float least, double uniform) {
    if (threadIdx.x == 0) scratch.token = scratch.end = -1;
    const Whole of_equal = cut.equal > 0 ? weight_of(number_of(cut.key), least) : 0;
    Sum mine = {};  // count: those of the cut's key
    each_four([&](int, const float4& x) {
      const auto look = [&](float logit) {
        const unsigned key = key_of(logit);
        if (key > cut.key) mine.weight += weight_of(logit, least);
        if (key == cut.key) ++mine.count;
      };
      look(x.x), look(x.y), look(x.z), look(x.w);
    });
    for (int step = 16; step > 0; step /= 2) {
      mine.count += __shfl_xor_sync(0xffffffffu, mine.count, step);
      mine.weight += __shfl_xor_sync(0xffffffffu, mine.weight, step);
    }
    const int lane = threadIdx.x % 32;
    Sum before = merge(lane == 0 ? mine : Sum{}).before, all = {};
    for (int i = 0; i < kDrawBlocks; ++i) all.add(scratch.of_block[i]);
    before.count = __shfl_sync(0xffffffffu, before.count, 0);
    before.weight = __shfl_sync(0xffffffffu, before.weight, 0);
    // Of the cut's key the first cut.equal weigh.
    const auto with_equals = [&](const Sum& sum) { return sum.weight + of_equal * min(sum.count, cut.equal); };
    const double target = uniform * static_cast<double>(with_equals(all));
    Sum after = before;
    after.add(mine);
    const Whole lighter = with_equals(before), heavier = with_equals(after);
    // Rounding may leave the target at the very end: the last token that weighs anything has it.
    const bool ends = heavier == with_equals(all), passes = static_cast<double>(heavier) > target;
    if (lane == 0 && heavier > lighter && static_cast<double>(lighter) <= target && (passes || ends))
      scratch.begin = begin, scratch.end = end, scratch.before = before;
    __syncthreads();
    const int last = scratch.end;
    if (last < 0) return -1;
    before = scratch.before;
    for (int i = scratch.begin; i < last; i += kDrawThreads) {
      const int at = i + static_cast<int>(threadIdx.x);
      const float4 four = at < last ? logits[at] : make_float4(-infinity(), -infinity(), -infinity(), -infinity());
      const float x[4] = {four.x, four.y, four.z, four.w};
      Sum own = {}, of_block;
      const auto add = [&](Sum& sum, float logit) {
        if (key_of(logit) > cut.key) sum.weight += weight_of(logit, least);
        if (key_of(logit) == cut.key) ++sum.count;
      };
      for (int k = 0; k < 4; ++k) add(own, x[k]);
      Sum sum = before_in_block(own, of_block);
      sum.add(before);
      before.add(of_block);
      for (int k = 0; k < 4; ++k) {  // of those that weigh something, none follows the one that passes
        const Whole was = with_equals(sum);
        add(sum, x[k]);
        if (with_equals(sum) > was && static_cast<double>(was) <= target) atomicMax(&scratch.token, 4 * at + k);
      }
    }
    __syncthreads();
    return scratch.token;
  }
};

#endif

// After `choose`, whose tokens are those of rows that draw nothing. grid: kDrawBlocks · count, in clusters of
// kDrawBlocks; block: kDrawThreads
extern "C" __global__ void __launch_bounds__(kDrawThreads, 4) draw(DrawArguments a) {
#if __CUDA_ARCH__ >= 900
  __shared__ DrawScratch scratch;
  let_next_start();
  wait_for_earlier();
  const int number = blockIdx.x / kDrawBlocks;
  const Draw wanted = a.draws[number];
  const ChosenToken likeliest = a.chosen[number];
  if (wanted.slope <= 0.0f || likeliest.token < 0) return;
  if (threadIdx.x == 0) scratch.found.tag = 0;
  DrawnRow row(a, number, scratch);
  meet();  // all know what to draw before one of them writes what was
  const Cut cut = row.cut(wanted.top_k < a.vocabulary ? wanted.top_k : 0, wanted.top_p);
  const int token = row.token_at(cut, wanted.least, wanted.uniform);
  if (threadIdx.x == 0 && token >= 0) {
    const float logit = a.logits[number * a.stride + token];
    a.chosen[number] = {token, logit - row.peak + likeliest.logprob};
  }
#endif
}

}  // namespace vortex::cuda
