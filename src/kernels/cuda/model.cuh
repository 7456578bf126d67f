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

// The likeliest token, the lowest among equals. Two passes over the logits, the second from the second cache; several
// loads of 16 bytes are on their way at once.
// grid: count; block: 1,024
extern "C" __global__ void choose(ChooseArguments a) {
  __shared__ float scratch[32];
  __shared__ int indices[32];
  const Block block(scratch);
  let_next_start();
  wait_for_earlier();
  const float4* const logits = reinterpret_cast<const float4*>(a.logits + blockIdx.x * a.stride);
  const int count = a.vocabulary / 4;
  float largest = -infinity(), bad = 0.0f;
  int index = 0x7fffffff;
  const auto look = [&](float x, int at) {
    if (!(x < infinity())) bad = 1.0f;
    if (x > largest) largest = x, index = at;
  };
#pragma unroll 8
  for (int i = block.thread; i < count; i += block.size) {
    const float4 x = logits[i];
    look(x.x, 4 * i), look(x.y, 4 * i + 1), look(x.z, 4 * i + 2), look(x.w, 4 * i + 3);
  }
  const float top = block.max(largest);
  bad = block.max(bad);
  if (largest != top) index = 0x7fffffff;
  for (int step = 16; step > 0; step /= 2) index = min(index, __shfl_xor_sync(0xffffffffu, index, step));
  if (block.thread % 32 == 0) indices[block.thread / 32] = index;
  float sum = 0.0f;
#pragma unroll 8
  for (int i = block.thread; i < count; i += block.size) {
    const float4 x = logits[i];
    sum += expf(x.x - top) + expf(x.y - top) + expf(x.z - top) + expf(x.w - top);
  }
  sum = block.sum(sum);  // and the indices are there
  if (block.thread != 0) return;
  for (int warp = 0; warp < block.size / 32; ++warp) index = min(index, indices[warp]);
  const bool numbers = bad == 0.0f && top > -infinity();
  a.chosen[blockIdx.x] = {numbers ? index : -1, numbers ? -logf(sum) : 0.0f};
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
