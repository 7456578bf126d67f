// The ordered list of passes.
#include <vortex/error.h>

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "compiler/passes/bind.h"
#include "compiler/passes/common.h"
#include "compiler/passes/contract.h"
#include "compiler/passes/facts.h"
#include "compiler/passes/rest.h"
#include "compiler/passes/schedule.h"
#include "compiler/passes/split.h"
#include "compiler/plan.h"

namespace vortex::compiler {

namespace {

#ifdef NDEBUG
constexpr bool kDebugBuild = false;
#else
constexpr bool kDebugBuild = true;
#endif

// A pass on the IR. Those that cannot be left out check or cut the program rather than improve it.
struct Pass {
  const char* name;
  ir::Program (*run)(const ir::Program&, const ir::Geometry&);
  bool optional;
};

ir::Program canonical(const ir::Program& program, const ir::Geometry&) { return ir::canonicalize(program); }

std::vector<Pass> ordered_passes() {
  return {
      {"bind", bind, false},          {"canonicalize", canonical, true},  {"rest", gather_rest, false},
      {"facts", use_facts, true},     {"split", split_along_page, false}, {"contract", make_contractions, true},
      {"common", share_common, true},
  };
}

double microseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

void check_names(const std::vector<std::string>& disabled) {
  std::vector<std::string> optional;
  for (const Pass& pass : ordered_passes())
    if (pass.optional) optional.push_back(pass.name);
  for (const std::string& name : disabled) {
    if (std::find(optional.begin(), optional.end(), name) != optional.end()) continue;
    const std::string near = nearest_name(name, optional);
    throw UserError("compile", "disabled passes must be among " + join(optional, ", "), '"' + name + '"',
                    near.empty() ? "leave it out" : "did you mean \"" + near + "\"?");
  }
}

}  // namespace

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const Pass& pass : ordered_passes()) names.push_back(pass.name);
  names.push_back("schedule");
  return names;
}

Plan compile(const ir::Program& program, const ir::Geometry& geometry, const CompileOptions& options) {
  check_names(options.disabled_passes);
  Plan plan{program, geometry, {}, {}, {}};
  plan.program.others.clear();
  for (const ir::LayerFlow& other : program.others)
    plan.others.push_back({other.layers, std::make_shared<const Plan>(compile(*other.flow, geometry, options))});
  auto report = [&](PassReport pass) {
    debug(1, "pass ", pass.name, " ", pass.microseconds, " us", pass.changed ? "" : " (unchanged)");
    if (pass.changed && !pass.text.empty()) debug(2, pass.text);
    plan.passes.push_back(std::move(pass));
  };
  const bool keep_text = options.keep_text || debug_level() >= 2;
  for (const Pass& pass : ordered_passes()) {
    const auto& off = options.disabled_passes;
    if (std::find(off.begin(), off.end(), pass.name) != off.end()) continue;
    const auto begin = std::chrono::steady_clock::now();
    ir::Program after = pass.run(plan.program, geometry);
    PassReport entry{pass.name, microseconds_since(begin), !(after == plan.program), {}};
    plan.program = std::move(after);
    if (options.verify_each || kDebugBuild) ir::verify(plan.program, geometry);
    if (keep_text) entry.text = ir::print(plan.program);
    report(std::move(entry));
  }
  const auto begin = std::chrono::steady_clock::now();
  plan.stages = schedule(plan.program, geometry);
  PassReport entry{"schedule", microseconds_since(begin), true, {}};
  if (keep_text) entry.text = print(plan);
  report(std::move(entry));
  return plan;
}

}  // namespace vortex::compiler
