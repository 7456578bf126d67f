// A compiled flow as CUDA C++ text, made of the primitives in flow.cuh: a kernel for each stage up to the last that is
// heavy, and the functions `summarize` and `finish` for a block, which the chain's own kernels call. Products of
// summaries with a value of the row go to the matrix unit, 16 candidates a warp; a page stage with other long loops
// takes a warp a candidate. Values that cross a stage go through the workspace in float32. UserError when an op has no
// CUDA implementation or a page's values do not fit a block's shared memory.
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
  int threads = 0;  // of a block; 0: a warp for each KV head, at most 8
  int per_block =
      1;          // page stages: candidates a block works on; with threads 0 at least so many, the grid says how many
  int pages = 1;  // page stages: of one instance, more than 1 where it is a group
};

// A learned tensor that the text reads, and how many axes it has beside those of layers and KV heads.
struct CudaParameter {
  std::string name;
  std::size_t axes = 0;
};

struct CudaFlow {
  std::string name;
  std::string text;                       // includes flow.cuh
  std::vector<FieldLayout> fields;        // in the order of FlowArguments::fields
  std::vector<CudaParameter> parameters;  // in the order of FlowArguments::parameters
  std::vector<StateLayout> states;        // in the order in which a sequence's memory has them
  std::vector<CudaStage> stages;          // kernels, in order
  std::int64_t row_floats = 0;            // workspace of a row: these, and page_floats for each candidate it can have
  std::int64_t page_floats = 0;
  bool chooses_set = false;         // the scores are a set: 1 or 0; the text says VORTEX_SET
  bool keeps_lists = false;         // lists are attended again in later steps; the text says VORTEX_KEEPS
  bool has_rest = false;            // what is not chosen has a logit and a value; the text says VORTEX_REST
  bool computes_budget = false;     // the text says VORTEX_BUDGET
  bool any_team = false;            // rows may be selected by teams of any size; the text says VORTEX_ANY_TEAM
  bool selects_with_score = false;  // the text says VORTEX_SCORE: the last stage may select as well
  // And nothing but that stage reads q, so that it may make q as well; the text says VORTEX_SCORE_ROW.
  bool prepares_with_score = false;
};

CudaFlow print_cuda(const compiler::Plan&);
// What full attention runs: nothing is summarized, nothing scored.
CudaFlow print_cuda_without_flow(const ir::Geometry&);

// The primitives that printed text includes, and all headers that it needs.
std::string_view flow_library();
std::vector<device::Header> flow_headers();

}  // namespace vortex::codegen
