// Arguments of the attention of prompt chunks, read by the compiler of the host and by that of the device.
#pragma once

#include "codegen/cuda/flow_arguments.h"

namespace vortex::cuda {

// New tokens of one sequence, all of them stored already: token t of them stands at position context + t and attends
// positions up to its own.
struct PrefillArguments {
  Shape shape;
  Plane k, v;
  const int* pages;  // physical page of each logical page of the sequence
  int context, count;
  const float* q;  // [count, q_stride]: kv_heads · group heads of head_dim side by side, not yet scaled
  long long q_stride;
  // Written in the order of operand.cuh, in blocks of operand_rows tokens, each [channels / 64, operand_rows, 64]; the
  // sequence's first new token is token `first` of all blocks.
  unsigned short* operand;
  int operand_rows, first;
};

}  // namespace vortex::cuda
