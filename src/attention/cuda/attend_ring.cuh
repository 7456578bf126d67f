// Attention of one new token a sequence over listed pages for sm_90, when there is work for every multiprocessor: a
// block takes runs of eight splits of 128 listed tokens in turn. A warp copies the pages of splits ahead into a ring in
// shared memory; teams of eight warps take splits in turn, a tile of 16 tokens a warp; four warps join the tiles
// of a split and the splits of a run as they come; join_runs then joins the runs of a row of more than one. A row's
// bits depend on q and the list alone, and are those of attend.cuh. VORTEX_PAGE divides 16 or is a multiple of it, and
// the tokens of a page lie side by side.
#pragma once

#include "attention/cuda/attend.cuh"

namespace vortex::cuda {

constexpr int kWarps = kTilesOfSplit, kTeams = VORTEX_TEAMS, kJoiners = 4,
              kRingThreads = (kTeams * kWarps + kJoiners + 1) * 32;
constexpr int kSlotBytes = kWarps * kTileBytes;
constexpr int kQueryBytes = kGroup * kDim * 4;
constexpr int kSumBytes = kWarps * kGroup * kDim * 4;  // of the tiles of a split
constexpr int kSlots = VORTEX_SLOTS;
constexpr int kCopies = kPage < 16 ? 16 / kPage : 1;  // pages of a tile
static_assert((16 % kPage == 0 || kPage % 16 == 0) && (!kInBytes || kPage >= 4), "refused by the launcher");

// Copies of kTokens tokens of a page from place `skip` on to where a tile in shared memory has its `first`-th token.
template <int kTokens>
__device__ inline void copy_tokens(const AttendArguments& a, int page, int head, int skip, int first, unsigned tile,
                                   const Barrier& barrier, unsigned long long once) {
  const auto copy = [&](const Plane& plane, int which) {
    const Stored* const from =
        static_cast<const Stored*>(plane.base) + page * plane.page_stride + head * plane.head_stride + skip * kDim;
    copy_bulk(tile + which * kPlaneBytes + first * kDim * kStoredBytes, from, kTokens * kDim * kStoredBytes, barrier,
              once);
    if (kInBytes)
      copy_bulk(tile + 2 * kPlaneBytes + (which * 16 + first) * kScaleBytes,
                plane.scales + page * plane.scale_page_stride + head * plane.scale_head_stride + skip,
                kTokens * kScaleBytes, barrier, once);
  };
  copy(a.k, 0), copy(a.v, 1);
}
constexpr int kTokenBytes = 2 * (kDim * kStoredBytes + kScaleBytes);  // that they bring of a token

struct __align__(16) SplitPlace {
  int row, split, count;  // row −1: there are no more
  int number;             // of the block's splits: tells the phases of a slot apart, which a parity alone does not
};

// grid: at most the runs of all rows; block: kRingThreads; shared: kSlots · (kSlotBytes + kQueryBytes) + 2 ·
// kSumBytes + 128
extern "C" __global__ void __launch_bounds__(kRingThreads, 1) attend_ring(const __grid_constant__ AttendArguments a) {
  extern __shared__ unsigned char dynamic[];
  __shared__ unsigned long long full[kSlots][kWarps], query_full[kSlots], empty[kSlots], sums_full[2], sums_empty[2];
  __shared__ SplitPlace places[kSlots], joined_places[2];
  __shared__ float tops[2][kWarps][kGroup], totals[2][kWarps][kGroup];
  unsigned char* const ring = dynamic + ((128u - (shared_address(dynamic) & 127u)) & 127u);
  float* const queries = reinterpret_cast<float*>(ring + kSlots * kSlotBytes);
  float* const sums_of_tiles = queries + kSlots * kGroup * kDim;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int most_runs = (a.splits + kRunSplits - 1) / kRunSplits, longest_run = min(a.splits, kRunSplits);
  // The splits of the block's runs in turn; row ≥ a.rows: there are no more.
  const auto split_at = [&](int number, int& row, int& split) {
    const int run = blockIdx.x + number / longest_run * gridDim.x;
    row = run / most_runs, split = run % most_runs * kRunSplits + number % longest_run;
  };
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kSlots; ++slot) {
      for (int i = 0; i < kWarps; ++i) Barrier(&full[slot][i]).open(1);
      Barrier(&query_full[slot]).open(1);
      Barrier(&empty[slot]).open(kWarps);
      places[slot].number = -1;
    }
    for (int i = 0; i < 2; ++i) Barrier(&sums_full[i]).open(kWarps), Barrier(&sums_empty[i]).open(kJoiners);
    publish_barriers();
  }
  __syncthreads();
  let_next_start();
  wait_for_earlier();

  if (warp == kTeams * kWarps + kJoiners) {
    // Lane 8 · i + t looks up tile t of the i-th of four splits at a time.
    const int tile = lane % 8, of_four = lane / 8;
    const unsigned long long once = read_once_policy();
    int used = 0;
    const auto look = [&](int number, int& count, int(&pages)[kCopies]) {
      count = 0;
      int row, split;
      split_at(number, row, split);
      if (row >= a.rows) return;
      const int position = split * kSplitTokens + tile * 16;
      const int list = a.lists_of_rows ? row : row / a.shape.kv_heads;
      count = a.tokens[list];
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int64 at = (position + i * kPage) / kPage;
        pages[i] = a.pages[list * a.stride + (at < a.stride ? at : a.stride - 1)];
      }
    };
    int next_count, next_pages[kCopies];
    look(of_four, next_count, next_pages);
    for (int first = 0;; first += 4) {
      int row, split;
      split_at(first, row, split);
      if (row >= a.rows) break;
      const int count = next_count;
      int pages[kCopies];
      for (int i = 0; i < kCopies; ++i) pages[i] = next_pages[i];
      look(first + 4 + of_four, next_count, next_pages);
      for (int i = 0; i < 4; ++i) {
        split_at(first + i, row, split);
        const int tokens = __shfl_sync(0xffffffffu, count, i * 8);
        if (split * kSplitTokens >= tokens) continue;
        const int slot = used % kSlots;
        if (used >= kSlots) Barrier(&empty[slot]).wait((used / kSlots - 1) & 1);
        const int sequence = row / a.shape.kv_heads, head = row % a.shape.kv_heads;
        if (lane == i * 8) places[slot] = {row, split, tokens, used};
        __syncwarp();
        if (of_four == i) {
          const int position = split * kSplitTokens + tile * 16, valid = min(tokens - position, 16);
          const Barrier barrier(&full[slot][tile]);
          const unsigned to = shared_address(ring + slot * kSlotBytes + tile * kTileBytes);
          if (tile == 0) {
            const Barrier of_query(&query_full[slot]);
            of_query.arrive_and_expect(kQueryBytes);
            copy_bulk(shared_address(queries + slot * kGroup * kDim),
                      a.q + sequence * a.q_stride + static_cast<int64>(head) * kGroup * kDim, kQueryBytes, of_query);
          }
          constexpr int kTokens = kPage < 16 ? kPage : 16;  // of a copy
          const int copies = (valid + kTokens - 1) / kTokens;
          if (valid <= 0) {
            barrier.arrive();
          } else {
            barrier.arrive_and_expect(copies * kTokens * kTokenBytes);
#pragma unroll
            for (int c = 0; c < kCopies; ++c) {
              if (c >= copies) break;
              copy_tokens<kTokens>(a, pages[c], head, position % kPage, c * kTokens, to, barrier, once);
            }
          }
        }
        ++used;
        __syncwarp();
      }
    }
    for (int team = 0; team < kTeams; ++team, ++used) {
      const int slot = used % kSlots;
      if (used >= kSlots) Barrier(&empty[slot]).wait((used / kSlots - 1) & 1);
      if (lane == 0) places[slot] = {-1, 0, 0, used};
      __syncwarp();
      if (lane < kWarps) Barrier(&full[slot][lane]).arrive();
    }
    return;
  }

  if (warp < kTeams * kWarps) {
    const int tile_of_split = warp % kWarps, team = warp / kWarps;
    const int line = lane / 4, quarter = lane % 4;
    const float factor = factor_of(a);
    for (int used = team;; used += kTeams) {
      const int slot = used % kSlots, parity = used / kSlots & 1, side = used & 1;
      while (*static_cast<volatile int*>(&places[slot].number) != used) __nanosleep(20);
      Barrier(&full[slot][tile_of_split]).wait(parity);
      const SplitPlace place = places[slot];
      if (place.row < 0) {
        if (used >= 2) Barrier(&sums_empty[side]).wait((used / 2 - 1) & 1);
        if (tile_of_split == 0 && lane == 0) joined_places[side] = place;
        __syncwarp();
        if (lane == 0) Barrier(&sums_full[side]).arrive(), Barrier(&empty[slot]).arrive();
        return;
      }
      Barrier(&query_full[slot]).wait(parity);
      const int valid = place.count - place.split * kSplitTokens - tile_of_split * 16;
      const unsigned char* const tile = ring + slot * kSlotBytes + tile_of_split * kTileBytes;
      const float* const query = queries + slot * kGroup * kDim;

      float top[kHeadTiles][2], total[kHeadTiles][2], sums[kDim / 64][4][kTiles][4] = {};
      Query q;
      q.load(line, quarter, QueryRows{query, factor});
      attend_tile(tile, q, valid, line, quarter, top, total, sums);
      __syncwarp();
      if (lane == 0) Barrier(&empty[slot]).arrive();

      if (used >= 2) Barrier(&sums_empty[side]).wait((used / 2 - 1) & 1);
      float* const to = sums_of_tiles + (side * kWarps + tile_of_split) * kGroup * kDim;
      store_tile(sums, top, total, line, quarter, to, tops[side][tile_of_split], totals[side][tile_of_split]);
      if (tile_of_split == 0 && lane == 0) joined_places[side] = place;
      __syncwarp();
      if (lane == 0) Barrier(&sums_full[side]).arrive();
    }
  }

  const int thread = threadIdx.x - kTeams * kWarps * 32;
  constexpr int kItems = (kGroup * kPairs + kJoiners * 32 - 1) / (kJoiners * 32);  // pairs of channels of a thread
  SplitSum run[kItems];
  for (int used = 0;; ++used) {
    const int side = used & 1;
    Barrier(&sums_full[side]).wait(used / 2 & 1);
    const SplitPlace place = joined_places[side];
    if (place.row < 0) return;
    const int splits = (place.count + kSplitTokens - 1) / kSplitTokens;
    const bool begins = place.split % kRunSplits == 0;
    const bool ends = place.split + 1 == splits || place.split % kRunSplits == kRunSplits - 1;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int item = thread + i * kJoiners * 32;
      if (item >= kGroup * kPairs) break;
      const int g = item / kPairs, channel = item % kPairs * 2;
      if (begins) run[i] = SplitSum();
      run[i].join(join_tiles(sums_of_tiles + side * kWarps * kGroup * kDim + g * kDim + channel, kGroup * kDim,
                             &tops[side][0][0], &totals[side][0][0], g));
      if (!ends) continue;
      if (splits <= kRunSplits) {
        put_row(a, place.row, g, channel, run[i].sum);
      } else {
        put_part(a, place.row, place.split / kRunSplits, most_runs, g, channel, run[i].sum);
      }
    }
    __syncwarp();
    if (lane == 0) Barrier(&sums_empty[side]).arrive();
  }
}

}  // namespace vortex::cuda
