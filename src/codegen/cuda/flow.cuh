// What printed flows are made of: sources, reductions and `along` ops by their names in the language (reduce_sum for
// the op `sum`, along_softmax for `softmax`, source_seq_tokens for `seq_tokens`). An op without its entry here has no
// CUDA implementation, and the printer says so.
#pragma once

#include "codegen/cuda/flow_arguments.h"
#include "device/cuda/async.cuh"
#include "device/cuda/stored.cuh"

namespace vortex::cuda {

// What a source may read.
struct FlowContext {
  const FlowArguments& arguments;
  SequencePlan plan;
  int sequence, head;
  int page;               // index among the candidates (score) or logical page (summarize)
  float* near = nullptr;  // the row's workspace where it does not lie in memory: in the shared memory of a cluster
};

// What the stages of a row hand on.
__device__ inline float* workspace_of(const FlowContext& c) {
  const FlowArguments& a = c.arguments;
  if (c.near != nullptr) return c.near;
  return a.workspace + (static_cast<int64>(c.sequence) * a.shape.kv_heads + c.head) * a.workspace_stride;
}

// The row's query heads side by side.
__device__ inline const float* q_of(const FlowContext& c) {
  const Shape& shape = c.arguments.shape;
  return c.arguments.q + c.sequence * c.arguments.q_stride + c.head * shape.group * shape.head_dim;
}

// A learned tensor as this layer and KV head have it.
__device__ inline const float* parameter_of(const FlowContext& c, int which) {
  const FlowArguments::Parameter& p = c.arguments.parameters[which];
  return p.base + c.head * p.head_stride;
}

// A state of kElements numbers of this row: element e of candidate i is from[e · room + i], or from[e] of the sequence;
// what it is in the next step goes to `to`. kBeforePages, kBeforeRows: numbers of a page and of the sequence that the
// states before it have.
struct StateView {
  const float* from;
  float* to;
  int64 room;
};
template <int kElements, bool kOfPages, int kBeforePages, int kBeforeRows>
__device__ inline StateView state_of(const FlowContext& c) {
  const FlowArguments& a = c.arguments;
  const FlowArguments::Carried carried = a.carried[c.sequence];
  const int64 rows = static_cast<int64>(a.layers) * a.shape.kv_heads;
  const int64 row = kElements * (kOfPages ? carried.room : 1), half = rows * row;
  float* const at =
      carried.base + 2 * rows * ((a.carried_pages + kBeforePages) * carried.room + a.carried_rows + kBeforeRows) +
      (static_cast<int64>(a.layer) * a.shape.kv_heads + c.head) * row + (kOfPages ? c.plan.first_candidate : 0);
  const bool odd = a.batch.steps != nullptr && a.batch.steps[c.sequence] % 2 != 0;
  return {at + (odd ? half : 0), at + (odd ? 0 : half), carried.room};
}

__device__ inline float source_seq_tokens(const FlowContext& c) { return static_cast<float>(c.plan.tokens); }
__device__ inline float source_seq_pages(const FlowContext& c) { return static_cast<float>(c.plan.pages); }
__device__ inline float source_seq_step(const FlowContext& c) {
  return c.arguments.batch.steps == nullptr ? 0.0f : static_cast<float>(c.arguments.batch.steps[c.sequence]);
}
__device__ inline float source_seq_left(const FlowContext& c) { return static_cast<float>(c.plan.left); }
__device__ inline float source_layer_index(const FlowContext& c) { return static_cast<float>(c.arguments.layer); }
__device__ inline float source_layer_count(const FlowContext& c) { return static_cast<float>(c.arguments.layers); }
__device__ inline float source_layer_scale(const FlowContext& c) { return c.arguments.shape.scale; }

__device__ inline float vortex_random(float a, float b) {
  const auto mixed = [](unsigned x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
  };
  const unsigned hash =
      mixed(mixed(__float_as_uint(a + 0.0f) + 0x9e3779b9u) ^ (__float_as_uint(b + 0.0f) + 0x85ebca6bu));
  return static_cast<float>(hash >> 8) * 5.9604644775390625e-08f;
}

// A reduction is fed element by element; `join` combines the threads of a team, `result` closes over n elements.
struct reduce_sum {
  float value = 0.0f;
  __device__ void add(float x) { value += x; }
  template <class Team>
  __device__ void join(const Team& team) {
    value = team.sum(value);
  }
  __device__ float result(int) const { return value; }
};
struct reduce_mean : reduce_sum {
  __device__ float result(int n) const { return n == 0 ? 0.0f : value / static_cast<float>(n); }
};
struct reduce_norm : reduce_sum {
  __device__ void add(float x) { value += x * x; }
  __device__ float result(int) const { return sqrtf(value); }
};
struct reduce_max {
  float value = -infinity();
  __device__ void add(float x) { value = fmaxf(value, x); }
  template <class Team>
  __device__ void join(const Team& team) {
    value = team.max(value);
  }
  __device__ float result(int) const { return value; }
};
struct reduce_min {
  float value = infinity();
  __device__ void add(float x) { value = fminf(value, x); }
  template <class Team>
  __device__ void join(const Team& team) {
    value = team.min(value);
  }
  __device__ float result(int) const { return value; }
};
struct reduce_logsumexp {
  float top = -infinity(), sum = 0.0f;  // sum of e^(x − top)
  __device__ void add(float x) {
    const float next = fmaxf(top, x);
    if (isinf(next)) {
      top = next;
      return;
    }
    sum = sum * expf(top - next) + expf(x - next);
    top = next;
  }
  template <class Team>
  __device__ void join(const Team& team) {
    const float all = team.max(top);
    sum = team.sum(isinf(all) || isinf(top) ? 0.0f : sum * expf(top - all));
    top = all;
  }
  __device__ float result(int) const { return isinf(top) ? top : top + logf(sum); }
};

// An `along` op sees every element once (look), joins, and then gives every element its value (give).
struct along_softmax : reduce_logsumexp {
  static constexpr bool in_order = false;
  __device__ void look(float x) { add(x); }
  __device__ float give(float x) { return expf(x - top) / sum; }
};
struct along_normalize : reduce_sum {
  static constexpr bool in_order = false;
  __device__ void look(float x) { add(x); }
  __device__ float give(float x) { return x / value; }
};
struct along_cumsum : reduce_sum {
  static constexpr bool in_order = true;  // one thread, element after element
  __device__ void look(float) {}
  __device__ float give(float x) { return value += x; }
};

// read(i) for i in [0, n), spread over a team; every thread gets the result.
template <class Op, class Team, class Read>
__device__ float reduce_over(const Team& team, int n, Read read) {
  Op op;
  for (int i = team.thread; i < n; i += team.size) op.add(read(i));
  op.join(team);
  return op.result(n);
}

// A block of so many threads.
template <int kThreads>
struct BlockOf : Block {
  static constexpr int kSize = kThreads;
  __device__ explicit BlockOf(float* shared) : Block(shared) {}
};

// Reductions that come to the same in any order.
template <class Op>
constexpr bool kAnyOrder = false;
template <>
constexpr bool kAnyOrder<reduce_max> = true;
template <>
constexpr bool kAnyOrder<reduce_min> = true;

// kRows reductions at once: write(row, the reduction of read(i, row) for i in [0, n)). Elements are added up in 512
// places, every 512th in one, and places in one order, so that a result does not hang on the team's size. The team has
// to meet before what is written is read.
template <class Op, int kRows, class Team, class Read, class Write>
__device__ void reduce_rows(const Team& team, int n, Read read, Write write) {
  constexpr int kPlaces = 512, kWarps = Team::kSize / 32;
  constexpr int kOfAThread = kAnyOrder<Op> ? 1 : kPlaces / Team::kSize, kUnroll = kOfAThread < 4 ? 4 / kOfAThread : 1;
  __shared__ Op of_warp[kRows][kPlaces / 32];
  Op ops[kOfAThread][kRows];
#pragma unroll kUnroll
  for (int first = team.thread; first < n; first += kOfAThread * Team::kSize) {
#pragma unroll
    for (int place = 0; place < kOfAThread; ++place) {
      const int i = first + place * Team::kSize;
      if (i >= n) break;
#pragma unroll
      for (int row = 0; row < kRows; ++row) ops[place][row].add(read(i, row));
    }
  }
  const Warp warp;
  const int which = team.thread / 32;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
#pragma unroll
    for (int place = 0; place < kOfAThread; ++place) {
      ops[place][row].join(warp);
      if (warp.thread == 0) of_warp[row][place * kWarps + which] = ops[place][row];
    }
  }
  team.sync();
  for (int row = which; row < kRows; row += kWarps) {
    Op all;
    if (warp.thread < kOfAThread * kWarps) all = of_warp[row][warp.thread];
    all.join(warp);
    if (warp.thread == 0) write(row, all.result(n));
  }
}

// The same by one thread.
template <class Op, class Read>
__device__ float reduce_alone(int n, Read read) {
  Op op;
  for (int i = 0; i < n; ++i) op.add(read(i));
  return op.result(n);
}

template <class Op, class Team, class Read, class Write>
__device__ void along_over(const Team& team, int n, Read read, Write write) {
  Op op;
  if constexpr (Op::in_order) {
    if (team.thread == 0) {
      for (int i = 0; i < n; ++i) write(i, op.give(read(i)));
    }
  } else {
    for (int i = team.thread; i < n; i += team.size) op.look(read(i));
    op.join(team);
    for (int i = team.thread; i < n; i += team.size) write(i, op.give(read(i)));
  }
}

template <class Op, class Read, class Write>
__device__ void along_alone(int n, Read read, Write write) {
  Op op;
  for (int i = 0; i < n; ++i) op.look(read(i));
  for (int i = 0; i < n; ++i) write(i, op.give(read(i)));
}

// What is stored of a summary.
__device__ inline void store(BFloat16* to, float value) { *to = to_bfloat16(value); }
__device__ inline void store(float* to, float value) { *to = value; }

// Element 0 of a field of one physical page and KV head.
template <class Element>
__device__ Element* field_at(const FlowContext& c, int field, int physical_page) {
  const FlowArguments::Field& f = c.arguments.fields[field];
  return static_cast<Element*>(f.base) + physical_page * f.page_stride + c.head * f.head_stride;
}

// The groups of kPages pages that a row scores: those whose pages are all full and of which at least one is a
// candidate. They are aligned to the start of the sequence.
template <int kPages, int kPageTokens>
struct Groups {
  __device__ static int first(const FlowContext& c) { return c.plan.first_candidate / kPages; }
  __device__ static int count(const FlowContext& c) {
    const int end =
        min(c.plan.tokens / (kPages * kPageTokens), (c.plan.first_candidate + c.plan.candidates + kPages - 1) / kPages);
    return c.plan.candidates > 0 ? max(end - first(c), 0) : 0;
  }
};

// A page or group some places away: whether there is one, and one there is in any case.
__device__ inline bool is_index(int i, int count) { return i >= 0 && i < count; }
__device__ inline int clamp_index(int i, int count) { return max(min(i, count - 1), 0); }

// The physical page at which the summary of a flow page, or of a group, of `size` tokens lies: its last one.
__device__ inline int summary_page(const FlowContext& c, int logical_page, int size) {
  const Batch& batch = c.arguments.batch;
  return batch.page_tables[c.sequence * batch.page_table_stride +
                           (logical_page + 1) * (size / c.arguments.shape.page_size) - 1];
}

// Sixteen of the `count` candidates, or groups, of `size` tokens whose first has the index `origin` in the sequence:
// those from `begin` on; past the last they stand on it. This lane brings the summaries of numbers first + line and
// first + line + 8.
struct PageTile {
  int line = threadIdx.x % 32 / 4, quarter = threadIdx.x % 4;
  int first, physical[2];
  bool there[2];
  __device__ PageTile(const FlowContext& c, int origin, int count, int begin, int size) : first(begin) {
    for (int i = 0; i < 2; ++i) {
      const int page = first + line + 8 * i;
      there[i] = page < count;
      physical[i] = summary_page(c, origin + max(min(page, count - 1), 0), size);
    }
  }
};

// write(candidate, part, head, sum over kDim of row value · summary) for each of `kParts` runs of kDim elements of a
// bf16 field.
template <int kParts, int kHeads, int kDim, class Write>
__device__ void multiply_pages(const PageTile& tile, const RowOperand<kHeads, kDim>& row, const FlowContext& c,
                               int field, Write write) {
  using Row = RowOperand<kHeads, kDim>;
  const BFloat16* const first = field_at<const BFloat16>(c, field, tile.physical[0]);
  const BFloat16* const second = field_at<const BFloat16>(c, field, tile.physical[1]);
  for (int part = 0; part < kParts; ++part) {
    uint4 words[2][kDim / 32];
    load_row<kDim>(words[0], first + part * kDim, tile.quarter);
    load_row<kDim>(words[1], second + part * kDim, tile.quarter);
    float sums[Row::kTiles][4];
    row.multiply(words[0], words[1], sums);
#pragma unroll
    for (int columns = 0; columns < Row::kHeadTiles; ++columns) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        bool remainder;
        const int head = Row::head_of(columns, tile.quarter * 2 + i % 2, remainder);
        if (head < kHeads && !remainder && tile.there[i / 2])
          write(tile.first + tile.line + i / 2 * 8, part, head, sums[columns][i]);
      }
    }
  }
}

// Asks for the summaries of candidates [from, to), 16 every `step`, before they are used: kBytes of a field each. May
// run before the work that the kernel waits for: a plan that is not there yet costs time alone, because only pages up
// to `last` are asked for.
template <int kBytes>
__device__ inline void fetch_ahead(const FlowContext& c, int field, int size, int last, int from, int to, int step) {
  constexpr int kLine = 128, kLines = (kBytes + kLine - 1) / kLine;
  for (int first = from; first < to; first += step) {
#pragma unroll 2
    for (int i = threadIdx.x % 32; i < 16 * kLines; i += 32) {
      const int page = c.plan.first_candidate + first + i / kLines;
      if (page < 0 || page > last) continue;
      const char* const at =
          reinterpret_cast<const char*>(field_at<const BFloat16>(c, field, summary_page(c, page, size)));
      asm volatile("prefetch.global.L2 [%0];" ::"l"(at + i % kLines * kLine));
    }
  }
}

// What a warp of a kernel of tiles works on: a block has the KV heads of blockIdx.y, a warp one of them. pages: of one
// instance, more than 1 for groups.
struct TileWork {
  int sequence, head, from, to;
  __device__ explicit TileWork(const FlowArguments& a, int pages = 1)
      : sequence(blockIdx.z), head(blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32) {
    const int capacity = pages == 1 ? a.capacity : (a.capacity + pages - 1) / pages + 1;
    const int of_block = (capacity + gridDim.x * 16 - 1) / (gridDim.x * 16) * 16;
    from = blockIdx.x * of_block, to = from + of_block;
  }
};

// The channels of a token of a flow page of kSize tokens.
template <int kSize>
__device__ inline auto channels_at(const FlowContext& c, const Plane& plane, int page, int token) {
  const Batch& batch = c.arguments.batch;
  const int size = c.arguments.shape.page_size;
  int index = page;
  if (size != kSize) index = page * (kSize / size) + token / size, token %= size;
  const int physical = batch.page_tables[c.sequence * batch.page_table_stride + index];
  const Stored* const at = static_cast<const Stored*>(plane.base) + physical * plane.page_stride +
                           c.head * plane.head_stride + token * plane.token_stride;
#if VORTEX_KV == 0
  return at;
#else
  return ScaledVector{at, plane.scales[physical * plane.scale_page_stride + c.head * plane.scale_head_stride + token]};
#endif
}

}  // namespace vortex::cuda
