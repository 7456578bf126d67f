// What the kernels of a flow take, read by the compiler of the host and by that of the device. Includes nothing.
// One new token a sequence. A row is (sequence, KV head), its number is sequence · kv_heads + head.
#pragma once

namespace vortex::cuda {

struct Shape {
  int kv_heads;
  int group;  // query heads that share a KV head
  int head_dim;
  int page_size;  // tokens of a physical page
  float scale;    // logit = scale · q·k
};

// Channels of (physical page p, head h, token t) begin at base + p·page_stride + h·head_stride + t·token_stride, in
// elements: bf16, or bytes, whose scale is scales[p·scale_page_stride + h·scale_head_stride + t]
// (device/cuda/stored.cuh).
struct Plane {
  void* base;
  long long page_stride, head_stride, token_stride;
  float* scales;
  long long scale_page_stride, scale_head_stride;
};

struct Batch {
  const int* page_tables;  // [sequences, page_table_stride] physical page of each logical page
  long long page_table_stride;
  const int* tokens;       // [sequences] tokens of the sequence, this step's included
  const long long* steps;  // [sequences] decode steps made so far
};

// What a sequence does in this step under one flow; the same for all its rows. Counted in pages of the flow.
struct SequencePlan {
  int tokens;
  int pages;            // the open one included
  int first_candidate;  // logical index of candidate 0: candidates are consecutive
  int candidates;
  // Candidates that are attended; equal to `candidates`: all are, nothing is scored. −1: as many as the flow's set
  // holds.
  int chosen;
  int left;  // candidates that the budget leaves to choose
  // Pages that the sequence had when its lists were chosen, which it attends again with those that came since; nothing
  // is scored. 0: lists are made in this step.
  int kept;
};

// What the kernels printed for a flow take: scores of the candidates of every row, or summaries of the pages that the
// newest token of a sequence finished.
struct FlowArguments {
  static constexpr int kFields = 16, kParameters = 16;
  struct Field {
    void* base;  // elements of (physical page p, head h) begin at base + p·page_stride + h·head_stride, in elements
    long long page_stride, head_stride;
  };
  struct Parameter {
    const float* base;  // of this layer: elements of KV head h begin at base + h·head_stride
    long long head_stride;
  };
  // What the rows of a sequence carry from step to step: for each state in turn floats [2, layers, kv_heads, elements,
  // room], without room where it is of the sequence. The first half holds what steps of an even number read.
  struct Carried {
    float* base;
    long long room;  // pages of the flow
  };
  Shape shape;
  Plane k, v;  // summarize only
  Batch batch;
  Field fields[kFields];
  Parameter parameters[kParameters];
  int carried_pages, carried_rows;  // numbers, of a page and of the sequence, that flows of other layers have before
  const Carried* carried;           // [sequences] of a flow with state
  const SequencePlan* plans;        // [sequences]
  const float* q;  // [sequences, q_stride]: kv_heads · group heads of head_dim side by side, not yet scaled
  long long q_stride;
  float* scores;     // [rows, capacity], out
  float* rest;       // [rows, group · (1 + head_dim)]: logits, then values, of what is not chosen, out; or null
  float* workspace;  // [rows, workspace_stride]
  long long workspace_stride;
  int capacity;  // candidates a row can have
  int layer, layers;
};

}  // namespace vortex::cuda
