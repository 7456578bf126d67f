// Attention of one new token a sequence over listed pages for sm_90, when there are few rows of few splits: a cluster
// of blocks attends a run of a row, a tile of 16 tokens a warp, all pages copied to shared memory at once. Each block
// owns a share of the row's channels: the warps of all blocks send it their tiles' sums, and it joins tiles and splits.
// A row's bits depend on q and the list alone, and are those of attend_ring.cuh. Asks of pages what the ring does. A
// block that comes early may run twice: first over whatever lies in shared memory and to no effect, while it has
// nothing else to do, so that its instructions are at hand when the list is there.
#pragma once

#include "attention/cuda/attend_ring.cuh"

namespace vortex::cuda {

// kBlocks blocks of kWarps warps a cluster, which has the tiles of a run of as many.
template <int kBlocks, int kWarps, bool kRunsTwice>
__device__ inline void attend_run(const AttendArguments& a) {
  constexpr int kTilesOfRun = kBlocks * kWarps, kShare = kGroup * kDim / kBlocks;
  static_assert(kShare % 8 == 0 && kTilesOfRun <= kRunSplits * kTilesOfSplit, "as the launcher chooses them");
  extern __shared__ unsigned char of_run_memory[];
  __shared__ unsigned long long landed[kWarps];
  __shared__ float tops[kTilesOfRun][kGroup], totals[kTilesOfRun][kGroup];
  unsigned char* const tiles = of_run_memory + ((128u - (shared_address(of_run_memory) & 127u)) & 127u);
  float* const sums_of_tiles = reinterpret_cast<float*>(tiles + kWarps * kTileBytes);  // [kTilesOfRun, kShare]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quarter = lane % 4;
  const int rank = blockIdx.x % kBlocks, run = blockIdx.x / kBlocks, head = blockIdx.y, sequence = blockIdx.z;
  const int row = sequence * a.shape.kv_heads + head, list = a.lists_of_rows ? row : sequence;
  const int tile = rank * kWarps + warp, begin = run * kRunSplits * kSplitTokens + tile * 16;
  const Barrier barrier(&landed[warp]);
  if (lane == 0) {
    barrier.open(1);
    publish_barriers();
  }
  __syncwarp();
  let_next_start();
#pragma unroll 1
  for (int pass = kRunsTwice ? 0 : 1; pass < 2; ++pass) {
    const bool real = pass == 1;
    cluster_arrive();  // the others may send when they have seen it
    const float* row_q = reinterpret_cast<const float*>(tiles);
    int count = (run + 1) * kTilesOfRun * 16, valid = 16;
    if (real) {
      wait_for_earlier();
      row_q = a.q + sequence * a.q_stride + static_cast<int64>(head) * kGroup * kDim;
      count = a.tokens[list], valid = min(count - begin, 16);
      const int64 at = (begin + lane * kPage) / kPage;
      int page = 0;
      if (lane < kCopies) page = a.pages[list * a.stride + (at < a.stride ? at : a.stride - 1)];
      constexpr int kTokens = kPage < 16 ? kPage : 16;  // of a copy
      const int copies = (valid + kTokens - 1) / kTokens;
      if (valid > 0) {
        if (lane == 0) barrier.arrive_and_expect(copies * kTokens * kTokenBytes);
        __syncwarp();
        if (lane < min(copies, kCopies)) {
          const unsigned long long once = read_once_policy();
          copy_tokens<kTokens>(a, page, head, begin % kPage, lane * kTokens, shared_address(tiles + warp * kTileBytes),
                               barrier, once);
        }
      }
      if (run * kRunSplits * kSplitTokens >= count) {
        cluster_wait();
        return;
      }
    }
    const int splits = (count + kSplitTokens - 1) / kSplitTokens, of_run = min(splits - run * kRunSplits, kRunSplits);

    float top[kHeadTiles][2], total[kHeadTiles][2], sums[kDim / 64][4][kTiles][4] = {};
    if (tile < of_run * kTilesOfSplit) {
      Query q;
      q.load(line, quarter, QueryRows{row_q, factor_of(a)});
      if (real && valid > 0) barrier.wait(0);
      attend_tile(tiles + warp * kTileBytes, q, valid, line, quarter, top, total, sums);
    }
    cluster_wait();
    if (tile < of_run * kTilesOfSplit) {
      const unsigned to = shared_address(sums_of_tiles + tile * kShare);
      give_tile(
          sums, top, total, line, quarter,
          [&](int head, int channel, const float4& first, const float4& second) {
            const int element = head * kDim + channel;
            const unsigned place = address_in(to + element % kShare * 4, element / kShare);
            write_in_cluster(place, first), write_in_cluster(place + 16, second);
          },
          [&](int head, float largest, float sum) {
#pragma unroll
            for (int other = 0; other < kBlocks; ++other) {
              write_in_cluster(address_in(shared_address(&tops[tile][head]), other), largest);
              write_in_cluster(address_in(shared_address(&totals[tile][head]), other), sum);
            }
          });
    }
    cluster_arrive();
    cluster_wait();

    float4* const of_splits = reinterpret_cast<float4*>(tiles);  // [of_run, kShare / 2]; the tiles have been read
    for (int item = threadIdx.x; item < of_run * (kShare / 2); item += kWarps * 32) {
      const int split = item / (kShare / 2), element = rank * kShare + item % (kShare / 2) * 2,
                first = split * kTilesOfSplit;
      of_splits[item] = join_tiles(sums_of_tiles + first * kShare + item % (kShare / 2) * 2, kShare, &tops[first][0],
                                   &totals[first][0], element / kDim);
    }
    __syncthreads();
    for (int pair = threadIdx.x; pair < kShare / 2; pair += kWarps * 32) {
      const int element = rank * kShare + pair * 2, g = element / kDim, channel = element % kDim;
      SplitSum sum;
#pragma unroll
      for (int split = 0; split < kTilesOfRun / kTilesOfSplit; ++split)
        if (split < of_run) sum.join(of_splits[split * (kShare / 2) + pair]);
      if (!real) continue;
      if (splits <= kRunSplits) {
        put_row(a, row, g, channel, sum.sum);
      } else {
        put_part(a, row, run, (a.splits + kRunSplits - 1) / kRunSplits, g, channel, sum.sum);
      }
    }
    if (!real) {
      publish_to_copies();
      __syncthreads();  // before the tiles' place takes pages
    }
  }
}

// grid: runs · blocks of a cluster, kv_heads, sequences; block: a warp a tile. shared: of each tile kTileBytes and
// kGroup · kDim floats; 128
#define VORTEX_ATTEND_CLUSTER(name, blocks, warps, twice)                                    \
  extern "C" __global__ void __cluster_dims__(blocks, 1, 1) __launch_bounds__(warps * 32, 1) \
      name(const __grid_constant__ AttendArguments a) {                                      \
    attend_run<blocks, warps, twice>(a);                                                     \
  }
VORTEX_ATTEND_CLUSTER(attend_2x16, 2, 16, false)  // there is no time for a run before
VORTEX_ATTEND_CLUSTER(attend_8x4, 8, 4, true)

}  // namespace vortex::cuda
