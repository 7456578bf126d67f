// The compiler's result: a canonical program bound to a geometry and cut into stages, independent of any backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/interpret.h"
#include "ir/program.h"

namespace vortex::compiler {

enum class StageKind : std::uint8_t { summarize, row, page, finish };
const char* name_of(StageKind);

// One fused loop. Inside a stage nothing touches memory but its inputs and its outputs.
struct Stage {
  StageKind kind;
  std::vector<ir::ValueId> nodes;    // in order of evaluation
  std::vector<ir::ValueId> inputs;   // values of earlier stages, summaries, q
  std::vector<ir::ValueId> outputs;  // values later stages or the caller read
  // page: what it runs over, the candidates, their groups or the pages of a set. summarize: of a page or of a group.
  ir::Domain domain = {ir::Domain::Kind::page};
};

struct PassReport {
  std::string name;
  double microseconds = 0;
  bool changed = false;
  std::string text;  // IR after the pass, when asked for
};

struct Plan;

// The plan of another flow for some layers.
struct LayerPlan {
  std::vector<std::int64_t> layers;
  std::shared_ptr<const Plan> plan;
};

struct Plan {
  ir::Program program;  // without its others
  ir::Geometry geometry;
  std::vector<Stage> stages;
  std::vector<PassReport> passes;
  std::vector<LayerPlan> others = {};
};

struct CompileOptions {
  std::vector<std::string> disabled_passes;  // by name
  bool keep_text = false;                    // fill PassReport::text
  bool verify_each = false;                  // verifier after each pass
};

// All passes in their order; the last one is "schedule".
std::vector<std::string> pass_names();

// UserError when the flow does not fit the geometry, or a disabled pass is unknown or cannot be left out.
Plan compile(const ir::Program&, const ir::Geometry&, const CompileOptions& = {});
std::string print(const Plan&);

}  // namespace vortex::compiler
