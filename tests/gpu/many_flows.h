// Flows in one translation unit, so that hundreds compile in seconds: each has a namespace and kernel names of its own
// behind the headers that they share. Of a flow there are the kernels that summarize and score, not those of a step.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/cuda/chain.h"
#include "base/thread_pool.h"

namespace vortex::gpu_tests {

struct PackedFlow {
  std::string name;    // for messages
  std::string prefix;  // of its kernels; no two of a test have the same
  codegen::CudaFlow printed;
  ir::FlowConfig config;
  std::unique_ptr<attention::CudaFlowKernels> kernels;  // null until loaded, and of one that does not compile
};

device::Source source_of(std::span<PackedFlow* const> flows);
// Compiles them, at most so many to a unit and a unit for each thread at least, and gives each its kernels. One that
// does not compile is a failure that names it.
void load(device::Device&, std::span<PackedFlow* const>, int most_of_a_unit, ThreadPool&);

template <class Flow>  // one that derives from PackedFlow
std::vector<PackedFlow*> all_of(std::vector<Flow>& flows) {
  std::vector<PackedFlow*> out;
  for (Flow& flow : flows) out.push_back(&flow);
  return out;
}

}  // namespace vortex::gpu_tests
