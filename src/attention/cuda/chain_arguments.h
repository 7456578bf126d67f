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

// Lists that rows keep until they are chosen anew; carried null: none.
struct KeptLists {
  const FlowArguments::Carried* carried;  // [sequences]; behind `before` floats: [2, layers, kv_heads, elements]
  long long before;
  const long long* steps;  // [sequences] decode steps made so far
  int layers, kv_heads, elements;
  int refresh_every;
  int margin;  // pages that may come before lists are chosen anew
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
  int open;  // not zero: the flow's set says how many pages are attended
  // Of a budget that the flow computes:
  const long long* steps;  // [sequences]
  int layer, layers;       // the first layer that is planned, of so many
  double scale;
  KeptLists kept;
  int kept_layer;  // whose lists say whether those of all layers are attended again, where one plan is for all
};

struct SelectArguments {
  const SequencePlan* plans;  // [sequences]
  const float* scores;        // [rows, capacity]
  int capacity;
  int kv_heads;
  int* pages;  // [rows, stride] logical pages, ascending, out
  long long stride;
  int* counts;  // [rows], out
  // The same in physical pages, for attend; physical null: not written.
  int page_size;       // tokens of a listed page
  int physical_pages;  // of a listed page
  const int* page_tables;
  long long page_table_stride;
  int* physical;  // [rows, physical_stride], out
  long long physical_stride;
  int* listed;  // [rows] tokens listed, out
};

// The newest tokens' q, k and v: norm over the channels of each head, rotation, k and v to the cache, q for scores and
// attend.
struct PrepareArguments {
  const float* qkv;  // [sequences, qkv_stride]: heads of q, k, v side by side
  long long qkv_stride;
  const float* bias;      // [qkv_stride] or null
  const float* q_norm;    // [head_dim] or null
  const float* k_norm;    // [head_dim] or null
  const float* rotation;  // [positions, head_dim / 2, 2]: cosine, sine; channels i and i + head_dim / 2 turn
  float epsilon;
  float* q;  // [sequences, flow.q_stride], out
};

// What the kernels of a flow's module take that do more than its own stages.
struct PrepareFlowArguments {
  FlowArguments flow;
  PrepareArguments prepare;
};
struct SelectFlowArguments {
  FlowArguments flow;
  SelectArguments select;
  KeptLists kept;
};
struct ScoreFlowArguments {
  FlowArguments flow;
  SelectArguments select;
  PrepareArguments prepare;  // qkv null: q is there already
  int* arrivals;             // [rows] blocks that have scored; zeros before and after. Not of score_row
  int chunks;                // blocks that share a row
};

// Physical pages of shape.page_size tokens, in ascending order of their logical ones: a list for each row or for each
// sequence.
struct AttendArguments {
  Shape shape;
  Plane k, v;
  const int* pages;  // [lists, stride]
  long long stride;
  const int* tokens;  // [lists] tokens listed
  int lists_of_rows;  // 0: a list for each sequence
  const float* q;     // [sequences, q_stride]
  long long q_stride;
  // [rows, group · (1 + head_dim)]: logits, then values, of what is not listed, each as one token more; −inf: none. Or
  // null.
  const float* rest;
  float* partial;     // [rows, parts, group, head_dim + 2]: weighted sum of values, largest logit, sum of weights
  int parts_of_runs;  // parts: 0: splits; else runs of eight
  int splits;         // of 128 tokens; what a list can need at most
  int rows;
  float* out;               // [sequences, kv_heads · group · head_dim] or null
  unsigned short* operand;  // the same as bf16 in the order of operand.cuh, or null
  int operand_rows;
};

}  // namespace vortex::cuda
