// Keeps what a test wants to see afterwards, on the device: page lists, logits and tokens of every position.
#pragma once

#include "device/cuda/device.cuh"
#include "gpu/record_arguments.h"

namespace vortex::cuda {

// grid: kv_heads, sequences; block: any
extern "C" __global__ void record_lists(RecordListsArguments a) {
  const int row = blockIdx.y * gridDim.x + blockIdx.x, rows = gridDim.x * gridDim.y;
  const int position = a.tokens[blockIdx.y] - 1;
  const int64 at = (static_cast<int64>(position) * a.layers + a.layer) * rows + row;
  for (int i = threadIdx.x; i < a.counts[row]; i += blockDim.x)
    a.list_log[at * a.stride + i] = a.pages[row * a.stride + i];
  if (threadIdx.x == 0) a.count_log[at] = a.counts[row];
}

// grid: sequences; block: any
extern "C" __global__ void record_step(RecordStepArguments a) {
  const int64 at = static_cast<int64>(a.tokens[blockIdx.x] - 1) * gridDim.x + blockIdx.x;
  for (int i = threadIdx.x; i < a.vocabulary; i += blockDim.x) {
    a.logit_log[at * a.vocabulary + i] = a.logits[static_cast<int64>(blockIdx.x) * a.vocabulary + i];
  }
  if (threadIdx.x == 0) a.token_log[at] = a.input[blockIdx.x];
}

}  // namespace vortex::cuda
