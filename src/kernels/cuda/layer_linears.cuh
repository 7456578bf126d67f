// The linears between two attentions in one kernel of sm_90: output, gate and up, down, and q, k, v of the next layer.
// A block a multiprocessor, all at work at once. Weights depend on nothing: one warp streams a block's part of all four
// through one ring of slabs (64 channels × 64 input channels) and never waits for activations. Between two linears a
// block waits until all blocks have counted up; meanwhile the ring fills. Within a linear a cluster cuts the input
// channels of its tiles; each sum goes to the block that finishes its channel and is added up in the order of the
// blocks, so results depend on the shape alone. The text around it defines LAYER_ROWS, LAYER_CLUSTER, LAYER_BLOCKS,
// LAYER_UNITS, LAYER_STAGES, LAYER_WINDOW, LAYER_SUMS, LAYER_LINEARS and the function multiply_tile.
#pragma once

#include "device/cuda/async.cuh"
#include "device/cuda/matrix.cuh"
#include "kernels/cuda/layer_linears_arguments.h"
#include "kernels/cuda/operand.cuh"

namespace vortex::cuda {

constexpr int kRows = LAYER_ROWS, kCluster = LAYER_CLUSTER, kBlocks = LAYER_BLOCKS;
constexpr int kUnits = LAYER_UNITS, kStages = LAYER_STAGES;  // of the rings of weights and of activations
constexpr int kWindow = LAYER_WINDOW;                        // slabs on their way at a time
constexpr int kGroups = 3, kWorkers = kGroups * 128, kHelpers = 64, kThreads = kWorkers + 64 + kHelpers;
constexpr int kUnitBytes = 64 * 128, kStageBytes = kRows * 128;

// Floats of a channel's sums, and of all sums. No two lanes that write or read them meet in a bank.
constexpr int kSumStride = (kRows + 5) / 16 * 16 + 10, kMostSums = LAYER_SUMS;

struct CutLinear {
  int in, out, tile, split, pack;  // pack: channels of a tile as the weights are packed
};
constexpr CutLinear kLinears[4] = {LAYER_LINEARS};
constexpr int kOutput = 0, kGateUp = 1, kDown = 2, kQkv = 3;

template <int kIndex>
struct Linear {
  static constexpr int kIn = kLinears[kIndex].in, kOut = kLinears[kIndex].out, kTile = kLinears[kIndex].tile;
  static constexpr int kSplit = kLinears[kIndex].split, kTiles = kOut / kTile, kSlabs = kTile / 64;
  static constexpr int kChunks = kIn / 64, kSteps = kChunks / kSplit;  // of 64 input channels, all and a block's
  static constexpr int kTeams = kGroups / kSlabs;                      // of kSlabs groups, which take steps in turns
  static constexpr int kShare = kTile / kSplit;                        // channels that a block finishes
  static constexpr int kSumFloats = kSplit * kTeams * kShare * kSumStride;
  static constexpr int kPackSlabs = kLinears[kIndex].pack / 64;
  static constexpr unsigned kSentBytes = (kSplit - 1) * kTeams * kShare * kRows * 4;  // of sums, by each block to each
  static constexpr bool kResidual = kIndex == kOutput || kIndex == kDown;
  static_assert(kOut % kTile == 0 && kSlabs <= kGroups && kCluster % kSplit == 0 && kTiles * kSplit <= kBlocks &&
                    2 * kTeams <= kStages && kStages % kTeams == 0 && kUnits % (kTeams * kSlabs) == 0,
                "cut");
  static_assert(kChunks % kSplit == 0 && kOut % kLinears[kIndex].pack == 0, "cut");
  static_assert(kSumFloats <= kMostSums && kShare % 16 == 0, "cut");

  __device__ static int tile() { return blockIdx.x / kCluster * (kCluster / kSplit) + blockIdx.x % kCluster / kSplit; }
  __device__ static int rank() { return blockIdx.x % kSplit; }
  __device__ static unsigned first_peer() { return blockIdx.x % kCluster / kSplit * kSplit; }  // of the split
  __device__ static bool at_work() { return tile() < kTiles; }
  // Element of the weights where the slab of a step of this block begins.
  __device__ static int64 slab_at(int step, int slab) {
    const int at = tile() * kSlabs + slab, chunk = rank() * kSteps + step;
    return (static_cast<int64>(at / kPackSlabs * kChunks + chunk) * kPackSlabs + at % kPackSlabs) * (64 * 64);
  }
  // Sums in shared memory, those that this block finishes: [block that made them, team, channel, row].
  __device__ static int sum_at(int from, int team, int channel) {
    return ((from * kTeams + team) * kShare + channel) * kSumStride;
  }
  // Four neighbouring channels of one row, summed over the blocks of the split and their teams.
  __device__ static float4 read_sums(const float* sums, int row, int channel) {
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < kSplit * kTeams; ++i) {
      const float* const from = sums + sum_at(i / kTeams, i % kTeams, channel) + row;
      x.x += from[0], x.y += from[kSumStride], x.z += from[2 * kSumStride], x.w += from[3 * kSumStride];
    }
    return x;
  }
};

// Which four channels of which row a thread finishes: eight rows and four neighbouring pieces a warp, so that no two
// lanes meet in a bank.
struct Item {
  int row, piece;
  __device__ explicit Item(int number) {
    const int group = number / 32;
    row = group % (kRows / 8) * 8 + number % 8, piece = group / (kRows / 8) * 4 + number % 32 / 8;
  }
};

__device__ inline const unsigned short* weight_of(const LayerLinearsArguments& a, int linear) {
  return linear == kOutput ? a.output : linear == kGateUp ? a.gate_up : linear == kDown ? a.down : a.qkv;
}
__device__ inline const unsigned short* operand_of(const LayerLinearsArguments& a, int linear) {
  return linear == kOutput ? a.attended : linear == kDown ? a.hidden : a.operand;
}

__device__ inline void workers_sync() { asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory"); }

struct Barriers {
  unsigned long long weight_full[kUnits], weight_empty[kUnits];
  unsigned long long stage_full[4][kStages], stage_empty[4][kStages];  // of each linear
  unsigned long long opened[4];                                        // the activations of a linear are there
  unsigned long long sums_made[4];                                     // by all blocks of the split
  unsigned long long factors_made[4];

  __device__ void open() {
    for (int i = 0; i < kUnits; ++i) Barrier(&weight_full[i]).open(1), Barrier(&weight_empty[i]).open(1);
    const unsigned sent[4] = {Linear<0>::kSentBytes, Linear<1>::kSentBytes, Linear<2>::kSentBytes,
                              Linear<3>::kSentBytes};
    const int slabs[4] = {Linear<0>::kSlabs, Linear<1>::kSlabs, Linear<2>::kSlabs, Linear<3>::kSlabs};
    for (int i = 0; i < 4; ++i) {
      for (int stage = 0; stage < kStages; ++stage) {
        Barrier(&stage_full[i][stage]).open(1);
        Barrier(&stage_empty[i][stage]).open(slabs[i]);
      }
      Barrier(&opened[i]).open(1);
      Barrier(&sums_made[i]).open(1);
      if (sent[i] > 0) Barrier(&sums_made[i]).arrive_and_expect(sent[i]);
      Barrier(&factors_made[i]).open(kHelpers);
    }
    publish_barriers();
  }
};

// A place in a ring, and how often the ring went round before.
template <int kPlaces>
struct Turn {
  int slot = 0;
  unsigned round = 0;
  __device__ void step() {
    if (++slot == kPlaces) slot = 0, ++round;
  }
};

// One thread: a block's weights of a linear, in the order in which they are multiplied. Only kWindow slabs are on their
// way at a time: more would not come sooner, and what blocks tell each other would wait behind them.
template <int kIndex>
__device__ inline void stream_weights(const LayerLinearsArguments& a, Barriers& barriers, unsigned ring,
                                      unsigned long long policy, Turn<kUnits>& turn, Turn<kUnits>& landed, int& asked) {
  using L = Linear<kIndex>;
  if (!L::at_work()) return;
  const unsigned short* const weight = weight_of(a, kIndex);
  for (int step = 0; step < L::kSteps; ++step) {
    for (int slab = 0; slab < L::kSlabs; ++slab, turn.step()) {
      if (turn.round > 0) Barrier(&barriers.weight_empty[turn.slot]).wait((turn.round - 1) & 1);
      if (asked == kWindow) {
        Barrier(&barriers.weight_full[landed.slot]).wait(landed.round & 1);
        landed.step();
      } else {
        ++asked;
      }
      const Barrier full(&barriers.weight_full[turn.slot]);
      full.arrive_and_expect(kUnitBytes);
      copy_bulk(ring + turn.slot * kUnitBytes, weight + L::slab_at(step, slab), kUnitBytes, full, policy);
    }
  }
}

// One thread: waits for the blocks that make the activations of a linear, and brings those of this block. target: of
// the counters.
template <int kIndex>
__device__ inline void stream_activations(const LayerLinearsArguments& a, Barriers& barriers, unsigned ring,
                                          unsigned long long target) {
  using L = Linear<kIndex>;
  if constexpr (kIndex > 0) {
    wait_for_counter(a.counters + kIndex - 1, target);
    join_copies();
    Barrier(&barriers.opened[kIndex]).arrive();
  }
  if (!L::at_work()) return;
  const unsigned short* from = operand_of(a, kIndex) + static_cast<int64>(L::rank() * L::kSteps) * kRows * 64;
  Turn<kStages> turn;
  for (int step = 0; step < L::kSteps; ++step, turn.step(), from += kRows * 64) {
    if (turn.round > 0) Barrier(&barriers.stage_empty[kIndex][turn.slot]).wait((turn.round - 1) & 1);
    const Barrier full(&barriers.stage_full[kIndex][turn.slot]);
    full.arrive_and_expect(kStageBytes);
    copy_bulk(ring + turn.slot * kStageBytes, from, kStageBytes, full);
  }
}

// The helpers: what the sums of each row are multiplied by, while the workers multiply.
template <int kIndex>
__device__ inline void make_factors(const LayerLinearsArguments& a, Barriers& barriers, float (&factors)[kRows],
                                    float4* scratch) {
  using Maker = Linear<kIndex - 1>;
  constexpr int kParts = Maker::kOut / 16;
  constexpr int kColumns = kRows / 4, kLanes = kHelpers / kColumns > 0 ? kHelpers / kColumns : 1;
  const int helper = threadIdx.x - (kThreads - kHelpers);
  Barrier(&barriers.opened[kIndex]).wait(0);
  for (int at = helper; at < kLanes * kColumns; at += kHelpers) {
    const float4* const from = reinterpret_cast<const float4*>(a.squares) + at % kColumns;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
    for (int part = at / kColumns; part < kParts; part += kLanes) {
      const float4 x = __ldcg(from + part * kColumns);
      sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
    }
    scratch[at] = sum;
  }
  asm volatile("bar.sync 2, %0;" ::"n"(kHelpers) : "memory");
  for (int row = helper; row < kRows; row += kHelpers) {
    float squares = 0.0f;
    for (int i = 0; i < kLanes; ++i) squares += reinterpret_cast<const float*>(scratch + i * kColumns)[row];
    factors[row] = 1.0f / sqrtf(squares / Maker::kOut + a.epsilon);
  }
  Barrier(&barriers.factors_made[kIndex]).arrive();
  asm volatile("bar.sync 2, %0;" ::"n"(kHelpers) : "memory");
}

// A descriptor of the matrix unit: rows of 128 bytes, swizzled by 128 bytes; 8 rows every 1,024 bytes. Its low half
// counts 16 bytes, so that 16 channels on is 2 more.
__device__ inline unsigned describe_operand(unsigned address) { return (address & 0x3ffffu) >> 4 | 1u << 16; }
__device__ inline unsigned long long widen(unsigned low) { return low | (64ull << 32 | 1ull << 62); }

// The products of a block's steps of one linear; first_unit: slabs before its own. A place of a ring is always the same
// group's within a linear: a group sees each of its place's phases, so a parity tells them apart, in whatever order
// copies land.
template <int kIndex>
__device__ inline void multiply_steps(float (&sums)[kRows / 2], Barriers& barriers, unsigned weights, unsigned stages,
                                      int first_unit) {
  using L = Linear<kIndex>;
  const int team = threadIdx.x / 128 / L::kSlabs, slab = threadIdx.x / 128 % L::kSlabs;
  const bool lead = threadIdx.x % 128 == 0;
  if (team >= L::kTeams) return;
#pragma unroll
  for (float& x : sums) x = 0.0f;
  const unsigned first_weight = describe_operand(weights), first_operand = describe_operand(stages);
  constexpr int kUnitStep = L::kTeams * L::kSlabs, kNone = -1;
  int unit = (first_unit + team * L::kSlabs + slab) % kUnits, stage = team % kStages;
  unsigned unit_parity = (first_unit + team * L::kSlabs + slab) / kUnits & 1, stage_parity = team / kStages & 1;
  int unit_before = kNone, stage_before = kNone;
  const auto release = [&] {
    if (!lead) return;
    Barrier(&barriers.weight_empty[unit_before]).arrive();
    Barrier(&barriers.stage_empty[kIndex][stage_before]).arrive();
  };
  for (int step = team; step < L::kSteps; step += L::kTeams) {
    Barrier(&barriers.stage_full[kIndex][stage]).wait(stage_parity);
    Barrier(&barriers.weight_full[unit]).wait(unit_parity);
    const unsigned weight = first_weight + unit * (kUnitBytes / 16);
    const unsigned operand = first_operand + stage * (kStageBytes / 16);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int k = 0; k < 4; ++k) multiply_tile(sums, widen(weight + k * 2), widen(operand + k * 2));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    // The products of the step before are done: its places are free.
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    if (step > team) release();
    unit_before = unit, stage_before = stage;
    if ((unit += kUnitStep) >= kUnits) unit -= kUnits, unit_parity ^= 1;
    if ((stage += L::kTeams) >= kStages) stage -= kStages, stage_parity ^= 1;
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  if (unit_before != kNone) release();
}

// What a thread adds to its first items, asked for before the sums are made.
template <class L>
struct Early {
  static constexpr int kAll = kRows * L::kShare / 4, kItems = (kAll + kWorkers - 1) / kWorkers;
  static constexpr int kKept = kItems < 2 ? kItems : 2;
  float4 residual[kKept], norm[kKept];
  __device__ void load(const LayerLinearsArguments& a, const float* norms) {
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const Item item(threadIdx.x + i * kWorkers);
      if (threadIdx.x + i * kWorkers >= kAll || item.row >= a.count) continue;
      const int channel = L::tile() * L::kTile + L::rank() * L::kShare + item.piece * 4;
      residual[i] =
          __ldcg(reinterpret_cast<const float4*>(a.residual + static_cast<int64>(item.row) * L::kOut + channel));
      norm[i] = *reinterpret_cast<const float4*>(norms + channel);
    }
  }
};

// Output and down: the residual grows, its product with the next norm is the next operand. Four channels a thread.
template <class L>
__device__ inline void finish_residual(const LayerLinearsArguments& a, const float* sums, const float* norms,
                                       const Early<L>& early) {
#pragma unroll
  for (int i = 0; i < Early<L>::kItems; ++i) {
    if (threadIdx.x + i * kWorkers >= Early<L>::kAll) break;  // whole warps
    const Item item(threadIdx.x + i * kWorkers);
    const int at = L::tile() * L::kTile + L::rank() * L::kShare + item.piece * 4;
    float4 x = L::read_sums(sums, item.row, item.piece * 4);
    float squares = 0.0f;
    uint2 packed = make_uint2(0, 0);
    if (item.row < a.count) {
      float4* const to = reinterpret_cast<float4*>(a.residual + static_cast<int64>(item.row) * L::kOut + at);
      const bool kept = i < Early<L>::kKept;
      const float4 before = kept ? early.residual[kept ? i : 0] : __ldcg(to);
      const float4 norm = kept ? early.norm[kept ? i : 0] : *reinterpret_cast<const float4*>(norms + at);
      x.x += before.x, x.y += before.y, x.z += before.z, x.w += before.w;
      *to = x;
      squares = x.x * x.x + x.y * x.y + (x.z * x.z + x.w * x.w);
      packed = make_uint2(pack_bfloat16(x.x * norm.x, x.y * norm.y), pack_bfloat16(x.z * norm.z, x.w * norm.w));
    }
    *reinterpret_cast<uint2*>(a.operand + operand_at(item.row, at, kRows)) = packed;
    squares += __shfl_xor_sync(0xffffffffu, squares, 8);
    squares += __shfl_xor_sync(0xffffffffu, squares, 16);
    if (threadIdx.x % 32 < 8) a.squares[at / 16 * kRows + item.row] = squares;
  }
}

// Gate and up: of 16 channels side by side the first 8 are gates, the others what they let through.
template <class L>
__device__ inline void finish_gate(const LayerLinearsArguments& a, const float* sums, const float* factors) {
  static_assert(L::kShare % 32 == 0, "gates and what they let through are in one block");
  constexpr int kAll = kRows * L::kShare / 8;
#pragma unroll 2
  for (int number = threadIdx.x; number < kAll; number += kWorkers) {
    const Item item(number);
    const int channel = item.piece / 2 * 16 + item.piece % 2 * 4;
    const float4 gate = L::read_sums(sums, item.row, channel), up = L::read_sums(sums, item.row, channel + 8);
    const float factor = factors[item.row];
    const auto open = [&](float g, float u) {
      g *= factor;
      return item.row < a.count ? g / (1.0f + __expf(-g)) * u * factor : 0.0f;
    };
    const int at = (L::tile() * L::kTile + L::rank() * L::kShare) / 2 + item.piece * 4;
    *reinterpret_cast<uint2*>(a.hidden + operand_at(item.row, at, kRows)) = make_uint2(
        pack_bfloat16(open(gate.x, up.x), open(gate.y, up.y)), pack_bfloat16(open(gate.z, up.z), open(gate.w, up.w)));
  }
}

template <class L>
__device__ inline void finish_plain(const LayerLinearsArguments& a, const float* sums, const float* factors) {
#pragma unroll 2
  for (int number = threadIdx.x; number < kRows * L::kShare / 4; number += kWorkers) {
    const Item item(number);
    if (item.row >= a.count) continue;
    const float4 x = L::read_sums(sums, item.row, item.piece * 4);
    const float factor = factors[item.row];
    const int at = L::tile() * L::kTile + L::rank() * L::kShare + item.piece * 4;
    *reinterpret_cast<float4*>(a.qkv_out + static_cast<int64>(item.row) * L::kOut + at) =
        make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor);
  }
}

// All worker threads: the products of a linear, the sums of the split, what is made of them, and the count.
template <int kIndex>
__device__ inline void work(const LayerLinearsArguments& a, Barriers& barriers, const float (&factors)[4][kRows],
                            unsigned weights, unsigned stages, float* all_sums, int& first_unit) {
  using L = Linear<kIndex>;
  const int warp = threadIdx.x / 32, line = threadIdx.x % 32 / 4, quarter = threadIdx.x % 4;
  const float* const norms = kIndex == kOutput ? a.ffn_norm : a.next_norm;
  if (L::at_work()) {
    Early<L> early;
    if constexpr (kIndex == kDown) Barrier(&barriers.opened[kIndex]).wait(0);
    if constexpr (L::kResidual) early.load(a, norms);
    float sums[kRows / 2];
    multiply_steps<kIndex>(sums, barriers, weights, stages, first_unit);
    first_unit += L::kSteps * L::kSlabs;
    const int team = warp / 4 / L::kSlabs;
    if (team < L::kTeams) {  // each sum goes to the block that finishes its channel
      const int channel = warp % (L::kSlabs * 4) * 16, to = channel / L::kShare;
      const int at = L::sum_at(L::rank(), team, channel % L::kShare + line) + quarter * 2;
      const unsigned here = shared_address(all_sums + at);
      const bool own = to == L::rank();
      const unsigned there = address_in(here, L::first_peer() + to);
      const unsigned barrier = address_in(shared_address(&barriers.sums_made[kIndex]), L::first_peer() + to);
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int offset = (j * 8 + i * 8 * kSumStride) * 4;
          const float first = sums[j * 4 + i * 2], second = sums[j * 4 + i * 2 + 1];
          if (own) {
            asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(here + offset), "f"(first), "f"(second) : "memory");
          } else {
            send_in_cluster(there + offset, first, second, barrier);
          }
        }
      }
    }
    workers_sync();
    if constexpr (!L::kResidual) Barrier(&barriers.factors_made[kIndex]).wait(0);
    if constexpr (L::kSplit > 1) Barrier(&barriers.sums_made[kIndex]).wait(0);
    if constexpr (L::kResidual) {
      finish_residual<L>(a, all_sums, norms, early);
    } else if constexpr (kIndex == kGateUp) {
      finish_gate<L>(a, all_sums, factors[kIndex]);
    } else {
      finish_plain<L>(a, all_sums, factors[kIndex]);
    }
  }
  if constexpr (kIndex != kQkv) {
    join_copies();
    workers_sync();
    if (threadIdx.x == 0) count_up(a.counters + kIndex);
  }
}

// grid: kBlocks, all at work at once; block: kThreads; shared: kUnits · kUnitBytes + kStages ·
// kStageBytes + kMostSums · 4 + 1,024
extern "C" __global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    layer_linears(const __grid_constant__ LayerLinearsArguments a) {
  extern __shared__ unsigned char dynamic[];
  __shared__ Barriers barriers;
  __shared__ float factors[4][kRows];
  __shared__ float4 scratch[kHelpers > kRows / 4 ? kHelpers : kRows / 4];
  const unsigned weights = (shared_address(dynamic) + 1023u) & ~1023u, stages = weights + kUnits * kUnitBytes;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) barriers.open();
  __syncthreads();
  cluster_arrive();  // the cluster's barriers are open once all are here
  let_next_start();
  float* const sums = reinterpret_cast<float*>(dynamic + (stages + kStages * kStageBytes - shared_address(dynamic)));
  const bool with_qkv = a.qkv != nullptr;
  if (warp == kWorkers / 32) {
    if (lane == 0) {
      const unsigned long long policy = read_once_policy();
      Turn<kUnits> turn, landed;
      int asked = 0;
      stream_weights<kOutput>(a, barriers, weights, policy, turn, landed, asked);
      stream_weights<kGateUp>(a, barriers, weights, policy, turn, landed, asked);
      stream_weights<kDown>(a, barriers, weights, policy, turn, landed, asked);
      if (with_qkv) stream_weights<kQkv>(a, barriers, weights, policy, turn, landed, asked);
    }
    __syncwarp();
    cluster_wait();
  } else if (warp == kWorkers / 32 + 1) {
    cluster_wait();
    if (lane == 0) {
      wait_for_earlier();
      // No launch before this one is at work, and this one does not end without this block.
      const unsigned long long target = (read_counter(a.counters + kDown) / kBlocks + 1) * kBlocks;
      stream_activations<kOutput>(a, barriers, stages, target);
      stream_activations<kGateUp>(a, barriers, stages, target);
      stream_activations<kDown>(a, barriers, stages, target);
      if (with_qkv) stream_activations<kQkv>(a, barriers, stages, target);
    }
    __syncwarp();
  } else if (warp > kWorkers / 32) {
    make_factors<kGateUp>(a, barriers, factors[kGateUp], scratch);
    if (with_qkv) make_factors<kQkv>(a, barriers, factors[kQkv], scratch);
    cluster_wait();
  } else {
    cluster_wait();
    wait_for_earlier();
    int first_unit = 0;  // slabs before those of a linear
    work<kOutput>(a, barriers, factors, weights, stages, sums, first_unit);
    work<kGateUp>(a, barriers, factors, weights, stages, sums, first_unit);
    work<kDown>(a, barriers, factors, weights, stages, sums, first_unit);
    if (with_qkv) work<kQkv>(a, barriers, factors, weights, stages, sums, first_unit);
  }
  // Nobody leaves while its sums are read.
  cluster_arrive();
  cluster_wait();
}

}  // namespace vortex::cuda
