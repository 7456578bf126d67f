// The exact `chosen` best candidates of a row, ties to the lower index, between sinks and recent pages, as ascending
// lists: of the flow's pages, and of physical pages for attend.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/async.cuh"

namespace vortex::cuda {

constexpr int kNearScores = 4096;  // of a row, in shared memory

// A float as an unsigned number of the same order; NaN below all, −0 as 0.
__device__ inline unsigned ordered(float x) {
  if (x != x) return 0u;
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Writes a row's list, entry by entry, in any order; then, together, the same in physical pages.
struct ListWriter {
  static constexpr int kNear = 512;  // entries that are read back from shared memory
  const SelectArguments& a;
  int sequence, row;
  int* near;  // [kNear]
  __device__ void put(int place, int page) const {
    a.pages[row * a.stride + place] = page;
    if (place < kNear) near[place] = page;
  }
  // The last listed page is the sequence's last, which may be open.
  __device__ void close(const SequencePlan& plan, int count) const {
    if (threadIdx.x == 0) a.counts[row] = count;
    if (a.physical == nullptr) return;
    if (threadIdx.x == 0) a.listed[row] = (count - plan.pages) * a.page_size + plan.tokens;
    __syncthreads();
    const int* table = a.page_tables + sequence * a.page_table_stride;
    for (int i = threadIdx.x; i < count * a.physical_pages; i += blockDim.x) {
      const int place = i / a.physical_pages, page = place < kNear ? near[place] : a.pages[row * a.stride + place];
      a.physical[row * a.physical_stride + i] = table[page * a.physical_pages + i % a.physical_pages];
    }
  }
};

// block: 256, 512 or 1,024
__device__ inline void select_row(const SelectArguments& a, int sequence, int head) {
  __shared__ int histogram[256];
  __shared__ int warp_sums[2][2][32];
  __shared__ unsigned shared_prefix;
  __shared__ int shared_left;
  __shared__ int near[ListWriter::kNear];
  __shared__ unsigned near_keys[kNearScores];
  const int thread = threadIdx.x, threads = blockDim.x;
  const int row = sequence * a.kv_heads + head;
  const SequencePlan plan = a.plans[sequence];
  const ListWriter list{a, sequence, row, near};
  const float* scores = a.scores + static_cast<int64>(row) * a.capacity;
  if (plan.chosen == plan.candidates) {
    for (int i = thread; i < plan.pages; i += threads) list.put(i, i);
    list.close(plan, plan.pages);
    return;
  }

  for (int i = thread; i < min(plan.candidates, kNearScores); i += threads) near_keys[i] = ordered(scores[i]);
  const auto key_at = [&](int i) {  // every thread reads what it wrote
    if (i >= plan.candidates) return 0u;
    return i < kNearScores ? near_keys[i] : ordered(scores[i]);
  };
  const int rounds = (plan.candidates + threads - 1) / threads;

  // The bits of the smallest chosen score, eight at a time; `left` of the scores equal to it are taken.
  unsigned prefix = 0;
  int left = plan.chosen;
  for (int shift = 24; shift >= 0 && left > 0; shift -= 8) {
    if (thread < 256) histogram[thread] = 0;
    __syncthreads();
    const auto count = [&](int round, unsigned key) {
      const bool counts = round * threads + thread < plan.candidates &&
                          (shift == 24 || (key >> (shift + 8)) == (prefix >> (shift + 8)));
      if (counts) atomicAdd(&histogram[key >> shift & 255u], 1);
    };
    for (int k = 0; k < rounds; ++k) count(k, key_at(k * threads + thread));
    __syncthreads();
    if (thread < 32) {  // a lane eight digits, the highest first
      int of_lane = 0;
      for (int i = 0; i < 8; ++i) of_lane += histogram[255 - thread * 8 - i];
      int above = of_lane;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, above, step);
        if (thread >= step) above += other;
      }
      above -= of_lane;
      if (above < left && left <= above + of_lane) {
        int digit = 255 - thread * 8;
        while (above + histogram[digit] < left) above += histogram[digit--];
        shared_prefix = prefix | static_cast<unsigned>(digit) << shift;
        // All scores of this digit are taken: whatever their other bits are, they are no less than the prefix.
        shared_left = above + histogram[digit] == left ? -1 : left - above;
      }
    }
    __syncthreads();
    prefix = shared_prefix;
    left = shared_left;
    if (left < 0) {
      left = plan.candidates;
      break;
    }
  }

  // Ascending: a position is the number of chosen candidates before it.
  for (int i = thread; i < plan.first_candidate; i += threads) list.put(i, i);
  int written = plan.first_candidate, equal_seen = 0;
  const auto take = [&](int round, unsigned key) {
    const int i = round * threads + thread;
    const bool above = i < plan.candidates && key > prefix;
    const bool equal = i < plan.candidates && key == prefix;
    const unsigned lower = (1u << (thread & 31)) - 1u;
    const unsigned above_mask = __ballot_sync(0xffffffffu, above), equal_mask = __ballot_sync(0xffffffffu, equal);
    auto& sums = warp_sums[round & 1];
    if ((thread & 31) == 0) {
      sums[0][thread / 32] = __popc(above_mask);
      sums[1][thread / 32] = __popc(equal_mask);
    }
    __syncthreads();
    int above_all = (thread & 31) < threads / 32 ? sums[0][thread & 31] : 0;
    int equal_all = (thread & 31) < threads / 32 ? sums[1][thread & 31] : 0;
    const int above_mine = above_all, equal_mine = equal_all;
    for (int step = 1; step < 32; step *= 2) {
      const int x = __shfl_up_sync(0xffffffffu, above_all, step), y = __shfl_up_sync(0xffffffffu, equal_all, step);
      if ((thread & 31) >= step) above_all += x, equal_all += y;
    }
    const int above_before = __shfl_sync(0xffffffffu, above_all - above_mine, thread / 32) + __popc(above_mask & lower);
    const int equal_before =
        equal_seen + __shfl_sync(0xffffffffu, equal_all - equal_mine, thread / 32) + __popc(equal_mask & lower);
    above_all = __shfl_sync(0xffffffffu, above_all, 31);
    equal_all = __shfl_sync(0xffffffffu, equal_all, 31);
    const int taken_before = above_before + min(equal_before, left) - min(equal_seen, left);
    if (above || (equal && equal_before < left)) list.put(written + taken_before, plan.first_candidate + i);
    written += above_all + min(equal_seen + equal_all, left) - min(equal_seen, left);
    equal_seen += equal_all;
  };
  if (plan.chosen > 0) {
    for (int k = 0; k < rounds; ++k) take(k, key_at(k * threads + thread));
  }
  const int recent = plan.pages - plan.first_candidate - plan.candidates;
  for (int i = thread; i < recent; i += threads) list.put(written + i, plan.first_candidate + plan.candidates + i);
  list.close(plan, written + recent);
}

}  // namespace vortex::cuda
