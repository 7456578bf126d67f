// The decode chain on a CUDA device: append, summarize, plan, score, select, attend for one new token a sequence, over
// the structs of the C interface with device pointers in them. All sizes that change from step to step are read on the
// device, so every launch may be captured in a graph; capacities bound them. The caller owns KV, tables, summaries and
// buffers. Knows no pool and no model.
#pragma once

#include <vortex/attention.h>

#include <memory>
#include <optional>
#include <span>

#include "attention/cuda/chain_arguments.h"
#include "attention/cuda/parameters.h"
#include "codegen/cuda/print.h"
#include "device/device.h"
#include "ir/rows.h"

namespace vortex::attention {

// What a step hands to the kernels of one layer. Pointers are of the device.
struct CudaLayer {
  vortex_geometry geometry;
  vortex_kv kv;
  vortex_batch batch;        // new_tokens null: one each
  const float* q = nullptr;  // [sequences, q_stride]: kv_heads · group heads of head_dim side by side, not yet scaled
  std::int64_t q_stride = 0;
  int layer = 0, layers = 1;
  const CudaParameters* parameters = nullptr;             // of the flow, where it has learned ones
  const cuda::FlowArguments::Carried* carried = nullptr;  // [sequences] of a flow with state
  // Of a flow with refresh_every, in place of states: 2 and the pages of a list at most; the first layer it chooses in.
  int kept_elements = 0, kept_layer = 0;
  int carried_pages = 0,
      carried_rows = 0;  // numbers, of a page and of the sequence, that other layers' flows have before
};

// Buffers of a flow's scores, kept from layer to layer.
struct CudaScores {
  const cuda::SequencePlan* plans = nullptr;  // [sequences]
  float* scores = nullptr;                    // [rows, capacity]
  float* workspace = nullptr;                 // [rows, workspace_stride]
  std::int64_t workspace_stride = 0;
  int capacity = 1;  // candidates a row can have
  // [sequences, kv_heads] zeros, and zeros again after each kernel; with them the kernel that scores a few rows also
  // selects, where the flow allows it. null: selection is a kernel of its own.
  int* arrivals = nullptr;
  float* rest = nullptr;  // [rows, group · (1 + head_dim)] of a flow with a rest
};

// Physical pages that are attended, in the order of their logical ones, and how many tokens they hold: a list for each
// row, or one for all rows of a sequence (full attention: the page tables themselves).
struct CudaLists {
  const int* pages = nullptr;  // [rows or sequences, stride]
  std::int64_t stride = 0;
  const int* tokens = nullptr;  // [rows or sequences]
  bool of_rows = true;
  // [rows, group · (1 + head_dim)] what pages that are not listed contribute: logits, then values, each as one token
  // more; a logit of −inf: nothing. Or null.
  const float* rest = nullptr;
};

// What select writes: the flow's pages, and the same as lists to attend.
struct CudaSelection {
  vortex_lists lists{};
  int* physical = nullptr;  // [rows, physical_stride] or null
  std::int64_t physical_stride = 0;
  int* listed = nullptr;  // [rows]

  CudaLists attended() const { return {physical, physical_stride, listed, true}; }
};

// What prepare reads beside the layer; layer.q is where it writes q.
struct CudaNewTokens {
  const float* qkv = nullptr;  // [sequences, stride]: heads of q, k, v side by side
  std::int64_t stride = 0;
  const float* q_norm = nullptr;    // [head_dim] or null
  const float* k_norm = nullptr;    // [head_dim] or null
  const float* rotation = nullptr;  // [positions, head_dim / 2, 2]: cosine, sine
  float epsilon = 0;
  const float* bias = nullptr;  // [stride] or null, added before all else
};

// Where attend writes; operand: bf16 as the next linear reads it (kernels/cuda/operand.cuh), by the tuned kernel alone.
struct CudaOutput {
  float* out = nullptr;  // [sequences, kv_heads · group, head_dim] or null
  unsigned short* operand = nullptr;
  int operand_rows = 0;
};

// With refresh_every: at least as many pages as decode steps bring until a set is chosen anew; else 0.
int kept_margin(const ir::FlowConfig&);

// A flow printed for a geometry and compiled for a device; or full attention, of which it has `prepare` alone.
class CudaFlowKernels {
 public:
  // kv: how K and V are stored. MachineError, InternalError from the compiler; UserError when the flow cannot be
  // printed.
  CudaFlowKernels(device::Device&, const compiler::Plan&, vortex_dtype kv = VORTEX_BFLOAT16);
  CudaFlowKernels(device::Device&, const ir::Geometry&, vortex_dtype kv = VORTEX_BFLOAT16);  // full attention
  // Of a module that holds the flow's kernels, under the names that `source` lists.
  CudaFlowKernels(codegen::CudaFlow, const ir::FlowConfig&, std::unique_ptr<device::Module>);
  static device::Source source(const codegen::CudaFlow&, vortex_dtype kv = VORTEX_BFLOAT16);

  const ir::FlowConfig& config() const { return config_; }
  const ir::RowRule& rows() const { return *rows_; }  // how many pages a row attends; not of full attention
  const codegen::CudaFlow& flow() const { return flow_; }
  const device::BuildReport& report() const { return module_->report(); }
  // Candidates that a row of so many tokens can have, at least 1, and floats of workspace for that many.
  int candidates(std::int64_t tokens) const;
  std::int64_t workspace_floats(int candidates) const { return flow_.row_floats + flow_.page_floats * candidates; }

  // What every sequence does in so many layers from the layer's own on: plans [layers, sequences]. dense_until:
  // [sequences] or null; a sequence of at most so many tokens attends all its pages.
  void plan(device::Stream&, const CudaLayer&, int layers, const int* dense_until, cuda::SequencePlan* plans) const;
  // Norm and rotation of q and k, k and v to the cache, summaries of the pages that the newest tokens finished: one
  // kernel.
  void prepare(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaNewTokens&) const;
  // Scores and the lists of all rows.
  void select(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaScores&,
              const CudaSelection&) const;

  // Both of these: one kernel where the flow allows it.
  void prepare_and_select(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaNewTokens&,
                          const CudaScores&, const CudaSelection&) const;

  // The parts by themselves: the stages before the last, which score pages.
  void score_pages(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaScores&) const;
  // Summaries of the pages that the newest tokens finished, into fields [flow().fields].
  void summarize(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields) const;
  // Scores of all candidates of rows that choose.
  void score(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaScores&) const;

 private:
  cuda::FlowArguments arguments(const CudaLayer&, std::span<const vortex_field> fields) const;
  cuda::FlowArguments arguments(const CudaLayer&, std::span<const vortex_field> fields, const CudaScores&) const;
  cuda::KeptLists kept_lists(const CudaLayer&) const;
  cuda::PrepareArguments prepare_arguments(const CudaLayer&, const CudaNewTokens&) const;
  void put_stages(device::Stream&, const cuda::FlowArguments&, int sequences, std::size_t count) const;
  bool selects_with_score(const CudaLayer&, const CudaScores&) const;
  void put_score_and_select(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaScores&,
                            const CudaSelection&, const cuda::PrepareArguments&) const;

  ir::FlowConfig config_;
  codegen::CudaFlow flow_;
  std::optional<ir::RowRule> rows_;
  unsigned row_blocks_ = 0;  // that run at a time in clusters, a cluster a row; 0: the device has none
  unsigned multiprocessors_ = 1;
  vortex_dtype kv_ = VORTEX_BFLOAT16;
  std::unique_ptr<device::Module> module_;
};

// The kernels that no flow changes. Two kinds of attend: a plain one for any geometry and K and V in bf16, and one
// tuned for a geometry on the matrix unit (head_dim a multiple of 64, group at most 16).
class CudaChain {
 public:
  explicit CudaChain(device::Device&);
  // UserError when the geometry is not served.
  CudaChain(device::Device&, const vortex_geometry& tuned, vortex_dtype kv = VORTEX_BFLOAT16);
  static device::Source source();
  static device::Source attend_source(const vortex_geometry&, std::string_view architecture,
                                      vortex_dtype kv = VORTEX_BFLOAT16);
  // Splits that the ring of sm_90 copies ahead; 0: there is no ring for the geometry on that architecture.
  static int ring_slots(const vortex_geometry&, std::string_view architecture, vortex_dtype kv = VORTEX_BFLOAT16);

  // Stores k, v [sequences, stride] (kv_heads of head_dim side by side) as the newest tokens.
  void append(device::Stream&, const CudaLayer&, const float* k, const float* v, std::int64_t stride) const;
  // What every sequence does in this step. config null: all its pages of page_size tokens are attended. dense_until:
  // [sequences] or null; a sequence of at most so many tokens attends all its pages.
  void plan(device::Stream&, const vortex_batch&, const ir::FlowConfig* config, int page_size, const int* dense_until,
            cuda::SequencePlan* plans) const;
  // Lists from scores that are there.
  void select(device::Stream&, const vortex_geometry&, const vortex_batch&, const CudaScores&,
              const CudaSelection&) const;
  // longest: tokens that a list can hold. partial: [partial_floats(...)].
  void attend(device::Stream&, const CudaLayer&, const CudaLists&, std::int64_t longest, float* partial,
              const CudaOutput&) const;
  static std::int64_t partial_floats(const vortex_geometry&, int sequences, std::int64_t longest);

 private:
  void put_tuned(device::Stream&, cuda::AttendArguments) const;

  std::unique_ptr<device::Module> module_, attend_;
  vortex_geometry tuned_{};
  vortex_dtype kv_ = VORTEX_BFLOAT16;
  int slots_ = 0;  // of the ring; 0: there is none
  int multiprocessors_ = 1;
};

}  // namespace vortex::attention
