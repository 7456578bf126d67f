// The decode chain on a CUDA device: append, summarize, plan, score, select, attend for one new token a sequence. All
// sizes that change from step to step are read on the device, so every launch may be captured in a graph. The caller
// owns KV, tables, summaries and buffers and hands in raw device pointers; knows no pool and no model.
#pragma once

#include <memory>
#include <vector>

#include "attention/cuda/chain_arguments.h"
#include "codegen/cuda/print.h"
#include "device/device.h"
#include "ir/config.h"

namespace vortex::attention {

// A flow printed for a geometry and compiled for a device.
class CudaFlowKernels {
 public:
  // MachineError, InternalError from the compiler; UserError when the flow cannot be printed.
  CudaFlowKernels(device::Device&, const compiler::Plan&);
  static device::Source source(const codegen::CudaFlow&);

  const ir::FlowConfig& config() const { return config_; }
  const codegen::CudaFlow& flow() const { return flow_; }
  const device::BuildReport& report() const { return module_->report(); }
  // Candidates that a row of so many tokens can have, and floats of workspace for that many.
  int candidates(int tokens) const;
  std::int64_t workspace_floats(int candidates) const { return flow_.row_floats + flow_.page_floats * candidates; }

  // Summaries of the pages that the newest tokens finished. Nothing when the flow has none.
  void summarize(device::Stream&, const cuda::FlowArguments&, int sequences) const;
  // Scores of all candidates into arguments.scores. Nothing when the flow has no score.
  void score(device::Stream&, const cuda::FlowArguments&, int sequences) const;

 private:
  ir::FlowConfig config_;
  codegen::CudaFlow flow_;
  std::unique_ptr<device::Module> module_;
};

class CudaChain {
 public:
  explicit CudaChain(device::Device&);
  static device::Source source();

  void append(device::Stream&, const cuda::AppendArguments&, int sequences) const;
  void plan(device::Stream&, const cuda::PlanArguments&) const;
  void select(device::Stream&, const cuda::SelectArguments&, int sequences) const;
  void attend(device::Stream&, const cuda::AttendArguments&, int sequences) const;

  // Plan arguments of a flow; null: every page of `page_size` tokens is attended.
  static cuda::PlanArguments plan_arguments(const ir::FlowConfig*, int page_size);
  static int splits(int tokens) { return (tokens + 127) / 128; }
  static std::int64_t partial_floats(const cuda::Shape&, int sequences, int tokens);

 private:
  std::unique_ptr<device::Module> module_;
};

}  // namespace vortex::attention
