// The decode chain on a CUDA device: append, summarize, plan, score, select, attend for one new token a sequence, over
// the structs of the C interface with device pointers in them. All sizes that change from step to step are read on the
// device, so every launch may be captured in a graph; capacities bound them. The caller owns KV, tables, summaries and
// buffers. Knows no pool and no model.
#pragma once

#include <vortex/attention.h>

#include <memory>
#include <span>

#include "attention/cuda/chain_arguments.h"
#include "codegen/cuda/print.h"
#include "device/device.h"
#include "ir/config.h"

namespace vortex::attention {

// What a step hands to the kernels of one layer. Pointers are of the device.
struct CudaLayer {
  vortex_geometry geometry;
  vortex_kv kv;
  vortex_batch batch;        // new_tokens null: one each
  const float* q = nullptr;  // [sequences, q_stride]: kv_heads · group heads of head_dim side by side, not yet scaled
  std::int64_t q_stride = 0;
  int layer = 0, layers = 1;
};

// Buffers of a flow's scores, kept from layer to layer.
struct CudaScores {
  const cuda::SequencePlan* plans = nullptr;  // [sequences]
  float* scores = nullptr;                    // [rows, capacity]
  float* workspace = nullptr;                 // [rows, workspace_stride]
  std::int64_t workspace_stride = 0;
  int capacity = 1;  // candidates a row can have
};

// A flow printed for a geometry and compiled for a device.
class CudaFlowKernels {
 public:
  // MachineError, InternalError from the compiler; UserError when the flow cannot be printed.
  CudaFlowKernels(device::Device&, const compiler::Plan&);
  static device::Source source(const codegen::CudaFlow&);

  const ir::FlowConfig& config() const { return config_; }
  const codegen::CudaFlow& flow() const { return flow_; }
  const device::BuildReport& report() const { return module_->report(); }
  // Candidates that a row of so many tokens can have, at least 1, and floats of workspace for that many.
  int candidates(std::int64_t tokens) const;
  std::int64_t workspace_floats(int candidates) const { return flow_.row_floats + flow_.page_floats * candidates; }

  // Summaries of the pages that the newest tokens finished, into fields [flow().fields]. Nothing when there are none.
  void summarize(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields) const;
  // Scores of all candidates of rows that choose. Nothing when the flow has no score.
  void score(device::Stream&, const CudaLayer&, std::span<const vortex_field> fields, const CudaScores&) const;

 private:
  cuda::FlowArguments arguments(const CudaLayer&, std::span<const vortex_field> fields) const;

  ir::FlowConfig config_;
  codegen::CudaFlow flow_;
  std::unique_ptr<device::Module> module_;
};

class CudaChain {
 public:
  explicit CudaChain(device::Device&);
  static device::Source source();

  // Stores k, v [sequences, stride] (kv_heads of head_dim side by side) as the newest tokens.
  void append(device::Stream&, const CudaLayer&, const float* k, const float* v, std::int64_t stride) const;
  // What every sequence does in this step. config null: all its pages of page_size tokens are attended. dense_until:
  // [sequences] or null; a sequence of at most so many tokens attends all its pages.
  void plan(device::Stream&, const vortex_batch&, const ir::FlowConfig* config, int page_size, const int* dense_until,
            cuda::SequencePlan* plans) const;
  void select(device::Stream&, const vortex_geometry&, int sequences, const CudaScores&, const vortex_lists&) const;
  // longest: tokens that a list can hold. partial: [partial_floats(...)]. out: [sequences, kv_heads · group, head_dim].
  void attend(device::Stream&, const CudaLayer&, const vortex_lists&, std::int64_t longest, float* partial,
              float* out) const;
  static std::int64_t partial_floats(const vortex_geometry&, int sequences, std::int64_t longest);

 private:
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::attention
