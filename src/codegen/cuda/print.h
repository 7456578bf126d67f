// A compiled flow as CUDA C++ text: one kernel a stage, made of the primitives in flow.cuh. Plain schedule: a warp
// scores a candidate, a block finishes a row or summarizes a page; values that cross a stage go through the workspace
// in float32. UserError when an op has no CUDA implementation or a page's values do not fit a block's shared memory.
#pragma once

#include <string>
#include <vector>

#include "codegen/cpu/flow.h"
#include "compiler/plan.h"
#include "device/device.h"

namespace vortex::codegen {

struct CudaStage {
  compiler::StageKind kind;
  std::string kernel;
  int threads = 0;    // of a block
  int per_block = 1;  // page stages: candidates a block works on
};

struct CudaFlow {
  std::string name;
  std::string text;                 // includes flow.cuh
  std::vector<FieldLayout> fields;  // in the order of FlowArguments::fields
  std::vector<CudaStage> stages;    // in order; a summarize stage first when the flow has summaries
  std::int64_t row_floats = 0;      // workspace of a row: these, and page_floats for each candidate it can have
  std::int64_t page_floats = 0;
};

CudaFlow print_cuda(const compiler::Plan&);

// The primitives that printed text includes, and all headers that it needs.
std::string_view flow_library();
std::vector<device::Header> flow_headers();

}  // namespace vortex::codegen
