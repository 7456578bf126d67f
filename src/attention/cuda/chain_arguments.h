// Arguments of the decode-chain kernels, read by the compiler of the host and by that of the device.
#pragma once

#include "codegen/cuda/flow_arguments.h"

namespace vortex::cuda {

struct AppendArguments {
  Shape shape;
  Plane k, v;
  Batch batch;
  const float* k_new;  // [sequences, new_stride]: kv_heads of head_dim side by side
  const float* v_new;
  long long new_stride;
};

struct PlanArguments {
  const int* tokens;       // [sequences]
  const int* dense_until;  // [sequences] or null: a sequence of at most so many tokens attends all its pages
  SequencePlan* plans;     // [sequences], out
  int sequences;
  int page_size;  // of the flow
  long long budget;
  double budget_ratio;
  int sinks, recent;
  int full;  // not zero: every page is attended
};

struct SelectArguments {
  const SequencePlan* plans;  // [sequences]
  const float* scores;        // [rows, capacity]
  int capacity;
  int kv_heads;
  int* pages;  // [rows, stride] logical pages, ascending, out
  long long stride;
  int* counts;  // [rows], out
};

struct AttendArguments {
  Shape shape;
  Plane k, v;
  Batch batch;
  int list_page_size;  // tokens of a listed page
  const int* pages;    // [rows, stride]
  long long stride;
  const int* counts;  // [rows]
  const float* q;     // [sequences, q_stride]
  long long q_stride;
  float* partial;  // [rows, splits, group, head_dim + 2]: weighted sum of values, largest logit, sum of weights
  int splits;      // of 128 tokens; what a list can need at most
  float* out;      // [sequences, kv_heads · group · head_dim]
};

}  // namespace vortex::cuda
