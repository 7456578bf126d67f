// What a whole model needs around its linears and its attention.
#pragma once

#include "device/cuda/async.cuh"
#include "device/cuda/stored.cuh"
#include "kernels/cuda/model_arguments.h"
#include "kernels/cuda/operand.cuh"

namespace vortex::cuda {

// grid: rows; block: any
extern "C" __global__ void pack_rows(PackRowsArguments a) {
  const int row = blockIdx.x;
  const int to = a.first + (a.interleaved != 0 ? row / 8 * 16 + row % 8 : row);
  for (int i = threadIdx.x; i < a.columns; i += blockDim.x)
    a.to[weight_at(to, i, a.columns, a.tile)] = a.from[static_cast<int64>(row) * a.columns + i];
}

// grid: count; block: whole warps
extern "C" __global__ void gather_rows(GatherRowsArguments a) {
  __shared__ float scratch[32];
  const Block block(scratch);
  const int row = blockIdx.x;
  let_next_start();
  wait_for_earlier();
  const float* from = a.residual + static_cast<int64>(a.from[row]) * a.width;
  float squares = 0.0f;
  for (int i = block.thread; i < a.width; i += block.size) {
    a.operand[operand_at(row, i, a.rows)] = to_bfloat16(from[i] * a.norm[i]).bits;
    squares += from[i] * from[i];
  }
  squares = block.sum(squares);
  if (block.thread == 0) a.squares[row] = squares;
}

// Of some tokens of a row: the largest logit, the first token that has it, the sum of exp(logit − largest). largest
// NaN: one is not a number.
struct Likeliest {
  float largest, sum;
  int token;
  // And others.
  __device__ void join(const Likeliest& x) {
    const float both = fmaxf(largest, x.largest);
    const bool bad = isnan(largest) || isnan(x.largest);
    const auto scaled = [&](const Likeliest& part) {
      return part.sum > 0.0f ? part.sum * expf(part.largest - both) : 0.0f;
    };
    sum = scaled(*this) + scaled(x);
    if (x.largest > largest || (x.largest == largest && x.token < token)) token = x.token;
    largest = bad ? __int_as_float(0x7fc00000) : both;
  }
};

// The likeliest token, the lowest among equals, in one pass. A cluster of blocks has a row; sm_90 and newer.
// grid: 8 · count, in clusters of 8; block: 256
extern "C" __global__ void __launch_bounds__(256) choose(ChooseArguments a) {
#if __CUDA_ARCH__ >= 900
  constexpr int kBlocks = 8, kThreads = 256, kAtOnce = 4;
  __shared__ Likeliest of_warp[kThreads / 32], of_block[kBlocks];
  let_next_start();
  wait_for_earlier();
  const int rank = blockIdx.x % kBlocks, row = blockIdx.x / kBlocks;
  const float4* const logits = reinterpret_cast<const float4*>(a.logits + row * a.stride);
  const int count = a.vocabulary / 4;
  Likeliest mine = {-infinity(), 0.0f, 0x7fffffff};
  bool bad = false;
  for (int i = rank * kThreads + threadIdx.x; i < count; i += kBlocks * kThreads * kAtOnce) {
    float4 x[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int at = i + k * kBlocks * kThreads;
      x[k] = at < count ? logits[at] : make_float4(-infinity(), -infinity(), -infinity(), -infinity());
    }
    float largest = mine.largest;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int token = 4 * (i + k * kBlocks * kThreads);
      const auto look = [&](float logit, int at) {
        bad = bad || !(logit < infinity());
        if (logit > largest) largest = logit, mine.token = at;
      };
      look(x[k].x, token), look(x[k].y, token + 1), look(x[k].z, token + 2), look(x[k].w, token + 3);
    }
    if (largest > mine.largest) mine.sum *= expf(mine.largest - largest), mine.largest = largest;
    if (isinf(largest)) continue;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      mine.sum += expf(x[k].x - largest) + expf(x[k].y - largest) + expf(x[k].z - largest) + expf(x[k].w - largest);
  }
  if (bad) mine.largest = __int_as_float(0x7fc00000);
  for (int step = 16; step > 0; step /= 2)
    mine.join({__shfl_xor_sync(0xffffffffu, mine.largest, step), __shfl_xor_sync(0xffffffffu, mine.sum, step),
               __shfl_xor_sync(0xffffffffu, mine.token, step)});
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < kThreads / 32; ++warp) mine.join(of_warp[warp]);
    *pointer_in(&of_block[rank], 0) = mine;
  }
  cluster_arrive();
  cluster_wait();
  if (rank != 0 || threadIdx.x != 0) return;
  for (int other = 1; other < kBlocks; ++other) mine.join(of_block[other]);
  const bool numbers = mine.largest > -infinity();
  a.chosen[row] = {numbers ? mine.token : -1, numbers ? -logf(mine.sum) : 0.0f};
#endif
}

// grid: layers; block: whole warps
extern "C" __global__ void count_lists(CountListsArguments a) {
  let_next_start();
  wait_for_earlier();
  const int rows = *a.sequences * a.kv_heads;
  const int64 first = static_cast<int64>(a.sources[blockIdx.x]) * a.layer_stride;
  int pages = 0, tokens = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < rows; i += blockDim.x) pages += a.pages[first + i], tokens += a.tokens[first + i];
  for (int step = 16; step > 0; step /= 2) {
    pages += __shfl_xor_sync(0xffffffffu, pages, step);
    tokens += __shfl_xor_sync(0xffffffffu, tokens, step);
  }
  if (threadIdx.x % 32 != 0) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(&a.counted[0]), static_cast<unsigned long long>(pages));
  atomicAdd(reinterpret_cast<unsigned long long*>(&a.counted[1]), static_cast<unsigned long long>(tokens));
}

// A sequence whose logits are not numbers goes on with token 0.
// grid: 1; block: at least as many as sequences
extern "C" __global__ void follow(FollowArguments a) {
  const int sequence = threadIdx.x, from = sequence < a.sequences ? a.from[sequence] : -1;
  if (from >= 0) a.tokens[sequence] = max(__ldcv(&a.chosen[from].token), 0);
}

// A sequence whose logits are not numbers goes on with token 0; the log says −1.
// grid: 1; block: at least as many as sequences
extern "C" __global__ void advance(AdvanceArguments a) {
  let_next_start();
  wait_for_earlier();
  const int sequence = threadIdx.x, step = a.progress[1];
  if (sequence < a.progress[0]) {
    const int token = a.chosen[sequence].token;
    a.log[step * a.stride + sequence] = token;
    a.tokens[sequence] = max(token, 0);
    a.lengths[sequence] += 1;
    a.steps[sequence] += 1;
  }
  __syncthreads();
  if (sequence == 0) a.progress[1] = step + 1;
}

// grid: count; block: any
extern "C" __global__ void move_pages(MovePagesArguments a) {
  uint4* const in_pool = reinterpret_cast<uint4*>(a.pool + a.pages[blockIdx.x] * a.elements);
  uint4* const in_block = reinterpret_cast<uint4*>(a.block + blockIdx.x * a.elements);
  for (int64 i = threadIdx.x; i < a.elements / 8; i += blockDim.x) {
    if (a.to_pool != 0)
      in_pool[i] = in_block[i];
    else
      in_block[i] = in_pool[i];
  }
}

// grid: any; block: any
extern "C" __global__ void read_all(ReadArguments a) {
  const uint4* const from = reinterpret_cast<const uint4*>(a.from);
  const int64 step = static_cast<int64>(gridDim.x) * blockDim.x;
  uint4 sum = make_uint4(0, 0, 0, 0);
#pragma unroll 8
  for (int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count; i += step) {
    const uint4 x = __ldcs(from + i);
    sum.x ^= x.x, sum.y ^= x.y, sum.z ^= x.z, sum.w ^= x.w;
  }
  if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x9e3779b9u) *a.out = sum.x;  // so that nothing is left out
}

__device__ inline unsigned long long mix(unsigned long long x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// grid: pages, layers; block: any
extern "C" __global__ void random_pages(RandomPagesArguments a) {
  unsigned short* const to = a.pool + blockIdx.y * a.layer_stride + a.pages[blockIdx.x] * a.elements;
  const unsigned long long of_page = mix(a.seed + (blockIdx.y * 0x100000ull + blockIdx.x + 1) * 0x9e3779b97f4a7c15ull);
  unsigned char* const bytes = reinterpret_cast<unsigned char*>(to);
  float* const scales = reinterpret_cast<float*>(bytes + a.vector_bytes);
  if (a.kind != 0) {
    for (int64 i = threadIdx.x; i < a.scales; i += blockDim.x) scales[i] = 1.0f / 32.0f;
  }
  for (int64 i = threadIdx.x; i < (a.kind == 0 ? a.elements : a.vector_bytes) / 2; i += blockDim.x) {
    const unsigned long long drawn = mix(of_page + static_cast<unsigned long long>(i + 1) * 0xd1342543de82ef95ull);
    const float first = (static_cast<float>(drawn >> 40) + 0.5f) * 0x1p-24f;
    const float second = static_cast<float>(drawn & 0xffffffu) * 0x1p-24f;
    const float radius = sqrtf(-2.0f * logf(first));
    float sine, cosine;
    sincosf(6.283185307f * second, &sine, &cosine);
    const float x = radius * cosine, y = radius * sine;
    if (a.kind != 0) {
      const auto byte = [&](float number) {
        const float scaled = fminf(fmaxf(32.0f * number, -127.0f), 127.0f);
        return a.kind == 1 ? integer_byte(fabsf(scaled) < 0.5f ? 1.0f : scaled)
                           : e4m3_byte(scaled == 0.0f ? 1.0f : scaled);
      };
      bytes[2 * i] = byte(x), bytes[2 * i + 1] = byte(y);
      continue;
    }
    to[2 * i] = to_bfloat16(x == 0.0f ? 1.0f : x).bits;
    to[2 * i + 1] = to_bfloat16(y == 0.0f ? 1.0f : y).bits;
  }
}

}  // namespace vortex::cuda
