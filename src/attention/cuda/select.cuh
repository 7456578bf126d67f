// The exact `chosen` best candidates of a row, ties to the lower index, between sinks and recent pages, as ascending
// lists: of the flow's pages, and of physical pages for attend. A block of eight warps takes a row. The smallest chosen
// key is found by counting keys in bins over their range, and again over the bin that holds it, until few are left.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/async.cuh"

namespace vortex::cuda {

constexpr int kSelectWarps = 8, kSelectThreads = kSelectWarps * 32;
constexpr int kBins = 1024;          // of the keys' range
constexpr int kFewKeys = 256;        // that are ranked one against another
constexpr int kKeptKeys = 8;         // of a thread, in registers; those after them are read again
constexpr int kPlacedRounds = 32;    // rounds of a candidate a thread that are placed together
constexpr int kNearEntries = kBins;  // of a list, that are read back from shared memory

// A float as an unsigned number of the same order; NaN below all, −0 as 0.
__device__ inline unsigned ordered(float x) {
  if (x != x) return 0u;
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Shared memory of a selection.
struct SelectScratch {
  int bins[kBins];  // then the first listed pages
  unsigned low[kSelectWarps], high[kSelectWarps];
  int totals[kSelectWarps];
  unsigned next_low, next_high;
  int wanted, count, few;
  unsigned keys[kFewKeys];
  int places[kPlacedRounds * kSelectWarps];
};

// Writes a row's list, entry by entry, in any order; then, together, the same in physical pages.
struct ListWriter {
  const SelectArguments& a;
  SelectScratch& scratch;
  int sequence, row;
  __device__ void put(int place, int page) const {
    a.pages[row * a.stride + place] = page;
    if (place < kNearEntries) scratch.bins[place] = page;
  }
  // The last listed page is the sequence's last, which may be open.
  __device__ void close(const SequencePlan& plan, int count) const {
    if (threadIdx.x == 0) a.counts[row] = count;
    if (a.physical == nullptr) return;
    if (threadIdx.x == 0) a.listed[row] = (count - plan.pages) * a.page_size + plan.tokens;
    __syncthreads();
    const int* table = a.page_tables + sequence * a.page_table_stride;
    for (int i = threadIdx.x; i < count * a.physical_pages; i += kSelectThreads) {
      const int place = i / a.physical_pages;
      const int page = place < kNearEntries ? scratch.bins[place] : a.pages[row * a.stride + place];
      a.physical[row * a.physical_stride + i] = table[page * a.physical_pages + i % a.physical_pages];
    }
  }
};

// A row's whole list: nothing was scored.
__device__ inline void list_all(SelectScratch& scratch, const SelectArguments& a, const SequencePlan& plan,
                                int sequence, int head) {
  const ListWriter list{a, scratch, sequence, sequence * a.kv_heads + head};
  for (int i = threadIdx.x; i < plan.pages; i += kSelectThreads) list.put(i, i);
  list.close(plan, plan.pages);
}

// The keys of a thread: of candidates thread, thread + 256, ...
template <class KeyOf>
struct ThreadKeys {
  const KeyOf& key_of;
  int candidates, rounds;
  unsigned kept[kKeptKeys];
  __device__ ThreadKeys(const KeyOf& of, int all)
      : key_of(of), candidates(all), rounds((all + kSelectThreads - 1) / kSelectThreads) {
#pragma unroll
    for (int k = 0; k < kKeptKeys; ++k) kept[k] = is_there(k) ? key_of(k * kSelectThreads + threadIdx.x) : 0u;
  }
  __device__ bool is_there(int round) const {
    return round * kSelectThreads + static_cast<int>(threadIdx.x) < candidates;
  }
  __device__ unsigned at(int round) const {
    return is_there(round) ? key_of(round * kSelectThreads + threadIdx.x) : 0u;
  }
  template <class Use>
  __device__ void each(const Use& use) const {
#pragma unroll
    for (int k = 0; k < kKeptKeys; ++k)
      if (is_there(k)) use(kept[k]);
    for (int k = kKeptKeys; k < rounds; ++k)
      if (is_there(k)) use(at(k));
  }
};

// The chosen-th largest key; `left` of the keys equal to it are among the chosen.
template <class KeyOf>
__device__ inline unsigned smallest_chosen(SelectScratch& s, int chosen, const ThreadKeys<KeyOf>& keys, int& left) {
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  unsigned low = 0xffffffffu, high = 0;
  keys.each([&](unsigned key) { low = min(low, key), high = max(high, key); });
  low = __reduce_min_sync(0xffffffffu, low), high = __reduce_max_sync(0xffffffffu, high);
  if (lane == 0) s.low[warp] = low, s.high[warp] = high;
  for (int i = thread; i < kBins; i += kSelectThreads) s.bins[i] = 0;
  if (thread == 0) s.few = 0;
  __syncthreads();
  for (int w = 0; w < kSelectWarps; ++w) low = min(low, s.low[w]), high = max(high, s.high[w]);
  left = chosen;
  while (low != high) {
    const int bits = 32 - __clz(static_cast<int>(high - low)), shift = bits > 10 ? bits - 10 : 0;
    keys.each([&](unsigned key) {
      if (low <= key && key <= high) atomicAdd(&s.bins[(key - low) >> shift], 1);
    });
    __syncthreads();
    // A thread has four bins, the highest first.
    constexpr int kOfAThread = kBins / kSelectThreads;
    int counts[kOfAThread], mine = 0;
#pragma unroll
    for (int i = 0; i < kOfAThread; ++i) {
      int& bin = s.bins[kBins - 1 - thread * kOfAThread - i];
      mine += counts[i] = bin;
      bin = 0;
    }
    int above = mine;
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, above, step);
      if (lane >= step) above += other;
    }
    if (lane == 31) s.totals[warp] = above;
    __syncthreads();
    above -= mine;
    for (int w = 0; w < warp; ++w) above += s.totals[w];
    if (above < left && left <= above + mine) {
      int bin = kBins - 1 - thread * kOfAThread, of_bin = counts[0];
#pragma unroll
      for (int i = 1; i < kOfAThread; ++i) {
        if (above + of_bin < left) above += of_bin, of_bin = counts[i], --bin;
      }
      const unsigned begin = low + (static_cast<unsigned>(bin) << shift);
      s.next_low = begin, s.next_high = begin + min(high - begin, (1u << shift) - 1u);
      s.wanted = left - above, s.count = of_bin;
    }
    __syncthreads();
    low = s.next_low, high = s.next_high, left = s.wanted;
    if (low == high || s.count > kFewKeys) continue;
    keys.each([&](unsigned key) {
      if (low <= key && key <= high) s.keys[atomicAdd(&s.few, 1)] = key;
    });
    __syncthreads();
    if (thread < s.few) {
      const unsigned key = s.keys[thread];
      int larger = 0, before = 0;
      for (int i = 0; i < s.few; ++i) {
        const unsigned other = s.keys[i];
        larger += other > key ? 1 : 0, before += other == key && i < thread ? 1 : 0;
      }
      if (larger + before == left - 1) s.next_low = key, s.wanted = left - larger;
    }
    __syncthreads();
    left = s.wanted;
    return s.next_low;
  }
  return low;
}

// key_of(i): the key of candidate i.
template <class KeyOf>
__device__ inline void select_row(SelectScratch& scratch, const SelectArguments& a, const SequencePlan& plan,
                                  int sequence, int head, KeyOf key_of) {
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const ListWriter list{a, scratch, sequence, sequence * a.kv_heads + head};
  const ThreadKeys<KeyOf> keys(key_of, plan.candidates);
  int left = 0;
  unsigned least = 0xffffffffu;
  if (plan.chosen > 0) least = smallest_chosen(scratch, plan.chosen, keys, left);

  // Ascending: a place is the number of chosen candidates before it.
  for (int i = thread; i < plan.first_candidate; i += kSelectThreads) list.put(i, i);
  const unsigned lower = (1u << lane) - 1u;
  int above_seen = 0, equal_seen = 0;
  auto& places = scratch.places;  // [round, warp]: keys above and, from bit 16 on, equal to the least
  for (int first = 0; first < keys.rounds && plan.chosen > 0; first += kPlacedRounds) {
    const int here = min(kPlacedRounds, keys.rounds - first);
    const auto votes = [&](int k, unsigned& above, unsigned& equal) {
      const unsigned key = keys.at(first + k);
      above = __ballot_sync(0xffffffffu, keys.is_there(first + k) && key > least);
      equal = __ballot_sync(0xffffffffu, keys.is_there(first + k) && key == least);
    };
#pragma unroll 4
    for (int k = 0; k < here; ++k) {
      unsigned above, equal;
      votes(k, above, equal);
      if (lane == 0) places[k * kSelectWarps + warp] = __popc(above) | __popc(equal) << 16;
    }
    __syncthreads();
    if (warp == 0) {  // a lane a round: counts become the sums of those before them
      int before = 0;
      for (int w = 0; w < kSelectWarps && lane < here; ++w) before += places[lane * kSelectWarps + w];
      const int mine = before;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, before, step);
        if (lane >= step) before += other;
      }
      if (lane == 31) scratch.totals[0] = before;
      before -= mine;
      for (int w = 0; w < kSelectWarps && lane < here; ++w) {
        const int count = places[lane * kSelectWarps + w];
        places[lane * kSelectWarps + w] = before;
        before += count;
      }
    }
    __syncthreads();
    const int all = scratch.totals[0];
#pragma unroll 4
    for (int k = 0; k < here; ++k) {
      unsigned above, equal;
      votes(k, above, equal);
      const int before = places[k * kSelectWarps + warp];
      const int above_before = above_seen + (before & 0xffff) + __popc(above & lower);
      const int equal_before = equal_seen + (before >> 16) + __popc(equal & lower);
      if ((above >> lane & 1u) != 0 || ((equal >> lane & 1u) != 0 && equal_before < left))
        list.put(plan.first_candidate + above_before + min(equal_before, left),
                 plan.first_candidate + (first + k) * kSelectThreads + thread);
    }
    above_seen += all & 0xffff, equal_seen += all >> 16;
    __syncthreads();
  }
  const int written = plan.first_candidate + plan.chosen;
  const int recent = plan.pages - plan.first_candidate - plan.candidates;
  for (int i = thread; i < recent; i += kSelectThreads)
    list.put(written + i, plan.first_candidate + plan.candidates + i);
  list.close(plan, written + recent);
}

// Lists of a row whose scores lie in memory. block: 256
__device__ inline void select_row_of_block(const SelectArguments& a, int sequence, int head) {
  __shared__ SelectScratch scratch;
  const SequencePlan plan = a.plans[sequence];
  const float* const scores = a.scores + static_cast<int64>(sequence * a.kv_heads + head) * a.capacity;
  if (plan.chosen == plan.candidates) {
    list_all(scratch, a, plan, sequence, head);
  } else {
    select_row(scratch, a, plan, sequence, head, [&](int i) { return ordered(scores[i]); });
  }
}

}  // namespace vortex::cuda
