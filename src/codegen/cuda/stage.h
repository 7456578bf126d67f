// One stage of a flow as device code: its kernel, or the function that the chain's own kernels call.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "codegen/cuda/layout.h"
#include "codegen/cuda/print.h"

namespace vortex::codegen {

inline constexpr int kMostTileWarps = 8;  // KV heads of a block that scores by tiles

struct PrintedStage {
  std::string text;                 // "" when the stage hands on sources only
  std::optional<CudaStage> kernel;  // none: a function
  bool by_tiles = false;            // a warp takes tiles of candidates
  bool reads_q = false;
  bool weighs_pages = false;       // it calls weigh_pages
  bool any_team = true;            // finish: its numbers do not hang on the team's size
  std::int64_t shared_floats = 0;  // of a team: of a tile's candidate where it goes by tiles
  std::int64_t shared_bytes = 0;   // of a block that scores, with a warp for each of kMostTileWarps KV heads
};

// `made`: what earlier stages store. Structs that flow.cuh lacks are added to `primitives`, name to body. UserError
// when an op has no CUDA implementation or a stage's values do not fit a block's shared memory.
PrintedStage print_stage(const CudaLayout&, const compiler::Stage&, const std::string& name, bool is_last,
                         const std::set<ir::ValueId>& made, std::map<std::string, std::string>& primitives);
// `summarize` or `finish` of a flow that has nothing to do there.
std::string idle_function(const std::string& function);

}  // namespace vortex::codegen
