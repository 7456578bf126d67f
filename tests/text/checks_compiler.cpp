// Checks of the compiler room. token= dim= head= give the geometry (16, 64, 3), off=a,b switches passes off.
//   plan                 the stages
//   after pass=NAME      the values of the program after a pass, or "(unchanged)"
//   passes               names of the passes that changed something
//   tiles                the tile program of the CPU
#include <cstdlib>
#include <sstream>

#include "base/text.h"
#include "codegen/cpu/flow.h"
#include "compiler/plan.h"
#include "runner.h"

namespace vortex::text_tests {

namespace {

compiler::Plan plan_of(const std::string& text, const std::string& arguments) {
  auto integer = [&](const char* key, const char* fallback) {
    return std::strtoll(argument(arguments, key, fallback).c_str(), nullptr, 10);
  };
  const ir::Geometry geometry{integer("token", "16"), integer("dim", "64"), integer("head", "3")};
  compiler::CompileOptions options{.disabled_passes = {}, .keep_text = true, .verify_each = true};
  std::istringstream off(argument(arguments, "off", ""));
  for (std::string name; std::getline(off, name, ',');) options.disabled_passes.push_back(name);
  ir::Program program = ir::parse(text);
  ir::verify(program);
  return compiler::compile(program, geometry, options);
}

}  // namespace

void add_compiler_checks(std::map<std::string, Check>& checks) {
  checks["plan"] = [](const std::string& text, const std::string& arguments, const std::string&) {
    return compiler::print(plan_of(text, arguments));
  };
  checks["after"] = [](const std::string& text, const std::string& arguments, const std::string&) {
    const std::string name = argument(arguments, "pass", "");
    for (const compiler::PassReport& pass : plan_of(text, arguments).passes) {
      if (pass.name != name) continue;
      if (!pass.changed) return std::string("(unchanged)");
      const std::size_t begin = pass.text.find("\n%");
      return begin == std::string::npos ? pass.text : pass.text.substr(begin + 1);
    }
    return concat("no pass ", name);
  };
  checks["tiles"] = [](const std::string& text, const std::string& arguments, const std::string&) {
    return codegen::CpuFlow::build(plan_of(text, arguments))->text();
  };
  checks["passes"] = [](const std::string& text, const std::string& arguments, const std::string&) {
    std::string out;
    for (const compiler::PassReport& pass : plan_of(text, arguments).passes)
      if (pass.changed) out += pass.name + "\n";
    return out;
  };
}

}  // namespace vortex::text_tests
