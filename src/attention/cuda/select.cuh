// The exact `chosen` best candidates of a row, ties to the lower index, between sinks and recent pages, as ascending
// lists: of the flow's pages, and of physical pages for attend. Eight warps, or sixteen, a block, take a row. The
// smallest chosen key is found by counting keys in bins over their range, and again over the bin that holds it, until
// few are left to rank. A warp has a run of candidates and keeps their keys in registers; the warps meet five times.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/async.cuh"

namespace vortex::cuda {

constexpr int kSelectWarps = 8, kMostSelectWarps = 16;  // of a row; where a block has but one
constexpr int kBins = 512, kBinBits = 9;                // of the keys' range
constexpr int kBinsOfALane = kBins / 32;
constexpr int kFewKeys = 64;  // that are ranked one against another
constexpr int kKeptKeys = 8;  // of a thread of eight warps, in registers; those after them are read again

// A float as an unsigned number of the same order; NaN below all, −0 as 0.
__device__ inline unsigned ordered(float x) {
  if (x != x) return 0u;
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Where the count of a bin lies: four bins of every lane side by side, so that 16-byte reads meet no bank twice.
__device__ inline int place_of(unsigned bin) {
  constexpr unsigned kOf = kBinsOfALane;
  return static_cast<int>(bin % kOf / 4 * 128 + bin / kOf * 4 + bin % 4);
}

// Shared memory of a selection. Before a second one uses it, those that select have to meet.
struct SelectScratch {
  alignas(16) int bins[kBins];  // then the first of the chosen candidates, in order
  alignas(16) unsigned low[kMostSelectWarps];
  alignas(16) unsigned high[kMostSelectWarps];
  alignas(16) int above[kMostSelectWarps];  // chosen keys of a warp: above the least, equal to it
  alignas(16) int equal[kMostSelectWarps];
  unsigned keys[kFewKeys];
  int few;
};

// A row's list, of the flow's pages and of physical ones.
struct ListWriter {
  const SelectArguments& a;
  int *pages, *physical;
  const int* table;
  __device__ ListWriter(const SelectArguments& arguments, int sequence, int row)
      : a(arguments),
        pages(a.pages + row * a.stride),
        physical(a.physical == nullptr ? nullptr : a.physical + row * a.physical_stride),
        table(a.page_tables + sequence * a.page_table_stride) {}
  __device__ void put(int place, int page) const {
    pages[place] = page;
    if (physical == nullptr) return;
    if (a.physical_pages == 1) {
      physical[place] = table[page];
    } else {
#pragma unroll 1
      for (int i = 0; i < a.physical_pages; ++i)
        physical[place * a.physical_pages + i] = table[page * a.physical_pages + i];
    }
  }
  // The last listed page is the sequence's last, which may be open.
  __device__ void close(const SequencePlan& plan, int row, int count, int thread) const {
    if (thread != 0) return;
    a.counts[row] = count;
    if (physical != nullptr) a.listed[row] = (count - plan.pages) * a.page_size + plan.tokens;
  }
};

// A row's whole list: nothing was scored.
__device__ inline void list_all(const SelectArguments& a, const SequencePlan& plan, int sequence, int head,
                                const Block& team = Block(nullptr)) {
  const int row = sequence * a.kv_heads + head;
  const ListWriter list(a, sequence, row);
#pragma unroll 1
  for (int i = team.thread; i < plan.pages; i += team.size) list.put(i, i);
  list.close(plan, row, plan.pages, team.thread);
}

// The keys of a thread: every 32nd of its warp's run of candidates. Those past the last candidate are read as the last:
// reads that nothing stands between are under way together.
template <int kWarps, int kKept, class KeyOf>
struct ThreadKeys {
  static constexpr int kThreads = kWarps * 32, kAtOnce = kWarps > kSelectWarps ? 2 : 4;
  const KeyOf& key_of;
  int candidates, rounds, first;
  unsigned kept[kKept];
  __device__ ThreadKeys(const KeyOf& of, int all, const Block& team)
      : key_of(of),
        candidates(all),
        rounds((all + kThreads - 1) / kThreads),
        first(team.thread / 32 * rounds * 32 + team.thread % 32) {
#pragma unroll
    for (int k = 0; k < kKept; ++k) kept[k] = read(k);
  }
  __device__ int candidate(int round) const { return first + round * 32; }
  __device__ bool is_there(int round) const { return candidate(round) < candidates; }
  __device__ unsigned read(int round) const { return key_of(min(candidate(round), candidates - 1)); }
  // use(round, key, is it there): the warp together.
  template <class Use>
  __device__ void each(const Use& use) const {
#pragma unroll
    for (int k = 0; k < kKept; k += 4) {
      if (k >= rounds) return;
#pragma unroll
      for (int i = k; i < k + 4; ++i) use(i, kept[i], i < rounds && is_there(i));
    }
#pragma unroll 1
    for (int k = kKept; k < rounds; k += kAtOnce) {
      unsigned read_now[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) read_now[i] = read(k + i);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) use(k + i, read_now[i], k + i < rounds && is_there(k + i));
    }
  }
};

__device__ inline int sum_of_lanes_before(int mine, int lane, int& with_mine) {
  with_mine = mine;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, with_mine, step);
    if (lane >= step) with_mine += other;
  }
  return with_mine - mine;
}

// The bin with the left-th largest key: its place and its keys, and how many of them are among the left largest. Every
// warp by itself.
__device__ inline int bin_of(const SelectScratch& s, int lane, int& left, int& count) {
  int counts[kBinsOfALane], mine = 0;  // a lane's bins, the highest first
#pragma unroll
  for (int i = 0; i < kBinsOfALane / 4; ++i) {
    const int4 four = reinterpret_cast<const int4*>(s.bins)[(kBinsOfALane / 4 - 1 - i) * 32 + 31 - lane];
    counts[4 * i] = four.w, counts[4 * i + 1] = four.z, counts[4 * i + 2] = four.y, counts[4 * i + 3] = four.x;
    mine += four.x + four.y + four.z + four.w;
  }
  int with_mine;
  int above = sum_of_lanes_before(mine, lane, with_mine);
  const unsigned holds = __ballot_sync(0xffffffffu, above < left && left <= with_mine);
  int bin = kBins - 1 - lane * kBinsOfALane, of_bin = counts[0];
#pragma unroll
  for (int i = 1; i < kBinsOfALane; ++i)
    if (above + of_bin < left) above += of_bin, of_bin = counts[i], --bin;
  const int holder = __ffs(static_cast<int>(holds)) - 1;
  left -= __shfl_sync(0xffffffffu, above, holder);
  count = __shfl_sync(0xffffffffu, of_bin, holder);
  return __shfl_sync(0xffffffffu, bin, holder);
}

// The left-th largest of the few keys; left becomes how many of those equal to it are among the left largest. Every
// warp by itself.
__device__ inline unsigned key_among_few(const SelectScratch& s, int lane, int& left) {
  const int few = s.few;
  for (int first = 0; first < few; first += 32) {
    const unsigned key = first + lane < few ? s.keys[first + lane] : 0u;
    int larger = 0, equal = 0;
#pragma unroll 4
    for (int i = 0; i < few; ++i) {
      const unsigned other = s.keys[i];
      larger += other > key ? 1 : 0, equal += other == key ? 1 : 0;
    }
    const unsigned found = __ballot_sync(0xffffffffu, first + lane < few && larger < left && left <= larger + equal);
    if (found == 0) continue;
    const int holder = __ffs(static_cast<int>(found)) - 1;
    left -= __shfl_sync(0xffffffffu, larger, holder);
    return __shfl_sync(0xffffffffu, key, holder);
  }
  return 0u;  // not reached: one of them is
}

// The chosen-th largest key; `left` of the keys equal to it are among the chosen.
template <int kWarps, class Keys>
__device__ inline unsigned smallest_chosen(SelectScratch& s, const Block& team, int chosen, const Keys& keys,
                                           int& left) {
  const int thread = team.thread, lane = thread % 32, warp = thread / 32;
  unsigned low = 0xffffffffu, high = 0;
  keys.each([&](int, unsigned key, bool there) {
    if (there) low = min(low, key), high = max(high, key);
  });
  low = __reduce_min_sync(0xffffffffu, low), high = __reduce_max_sync(0xffffffffu, high);
  if (lane == 0) s.low[warp] = low, s.high[warp] = high;
  for (int i = thread; i < kBins; i += kWarps * 32) s.bins[i] = 0;
  if (thread == 0) s.few = 0;
  team.sync();
  const int other = min(lane, kWarps - 1);
  low = __reduce_min_sync(0xffffffffu, s.low[other]), high = __reduce_max_sync(0xffffffffu, s.high[other]);
  left = chosen;
  while (low != high) {
    const int bits = 32 - __clz(static_cast<int>(high - low)), shift = max(bits - kBinBits, 0);
    keys.each([&](int, unsigned key, bool there) {
      if (there && low <= key && key <= high) atomicAdd(&s.bins[place_of((key - low) >> shift)], 1);
    });
    team.sync();
    int count;
    low += static_cast<unsigned>(bin_of(s, lane, left, count)) << shift;
    high = low + min(high - low, (1u << shift) - 1u);
    if (low == high) break;
    if (count <= kFewKeys) {
      keys.each([&](int, unsigned key, bool there) {
        if (there && low <= key && key <= high) s.keys[atomicAdd(&s.few, 1)] = key;
      });
      team.sync();
      return key_among_few(s, lane, left);
    }
    team.sync();
    for (int i = thread; i < kBins; i += kWarps * 32) s.bins[i] = 0;
    team.sync();
  }
  return low;
}

// The list of a row. key_of(i): the key of candidate i. team: kWarps warps. kKept: keys of a thread that stay in
// registers.
template <int kWarps = kSelectWarps, int kKept = kKeptKeys, class KeyOf>
__device__ inline void select_row(SelectScratch& scratch, const SelectArguments& a, const SequencePlan& plan,
                                  int sequence, int head, KeyOf key_of, const Block& team = Block(nullptr)) {
  const int thread = team.thread, lane = thread % 32, warp = thread / 32, row = sequence * a.kv_heads + head;
  const ListWriter list(a, sequence, row);
  if (plan.chosen > 0) {
    const ThreadKeys<kWarps, kKept, KeyOf> keys(key_of, plan.candidates, team);
    int left = 0;
    const unsigned least = smallest_chosen<kWarps>(scratch, team, plan.chosen, keys, left);
    // Ascending: a place is the number of chosen candidates before it, those of earlier warps first.
    int of_warp = 0, equal_of_warp = 0;
    keys.each([&](int, unsigned key, bool there) {
      of_warp += there && key > least ? 1 : 0, equal_of_warp += there && key == least ? 1 : 0;
    });
    of_warp = __reduce_add_sync(0xffffffffu, of_warp), equal_of_warp = __reduce_add_sync(0xffffffffu, equal_of_warp);
    if (lane == 0) scratch.above[warp] = of_warp, scratch.equal[warp] = equal_of_warp;
    team.sync();
    int above_seen = __reduce_add_sync(0xffffffffu, lane < warp ? scratch.above[lane] : 0);
    int equal_seen = __reduce_add_sync(0xffffffffu, lane < warp ? scratch.equal[lane] : 0);
    const unsigned lower = (1u << lane) - 1u;
    keys.each([&](int round, unsigned key, bool there) {
      const unsigned above = __ballot_sync(0xffffffffu, there && key > least);
      const unsigned equal = __ballot_sync(0xffffffffu, there && key == least);
      const int equal_before = equal_seen + __popc(equal & lower);
      if (there && (key > least || (key == least && equal_before < left))) {
        const int place = above_seen + __popc(above & lower) + min(equal_before, left);
        if (place < kBins) {
          scratch.bins[place] = keys.candidate(round);
        } else {
          list.put(plan.first_candidate + place, plan.first_candidate + keys.candidate(round));
        }
      }
      above_seen += __popc(above), equal_seen += __popc(equal);
    });
    team.sync();
  }
  const int recent = plan.pages - plan.first_candidate - plan.candidates;
  const int written = plan.first_candidate + plan.chosen;
#pragma unroll 1
  for (int i = thread; i < written + recent; i += kWarps * 32) {
    const int place = i - plan.first_candidate;
    if (place >= kBins && place < plan.chosen) continue;
    int page = i;
    if (i >= written) page = i - written + plan.first_candidate + plan.candidates;
    if (place >= 0 && i < written) page = plan.first_candidate + scratch.bins[place];
    list.put(i, page);
  }
  list.close(plan, row, written + recent, thread);
}

// Lists of a row whose scores lie in memory. block: 256
__device__ inline void select_row_of_block(const SelectArguments& a, int sequence, int head) {
  __shared__ SelectScratch scratch;
  const SequencePlan plan = a.plans[sequence];
  const float* const scores = a.scores + static_cast<int64>(sequence * a.kv_heads + head) * a.capacity;
  if (plan.chosen == plan.candidates) {
    list_all(a, plan, sequence, head);
  } else {
    select_row(scratch, a, plan, sequence, head, [&](int i) { return ordered(scores[i]); });
  }
}

}  // namespace vortex::cuda
