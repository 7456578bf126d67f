// Registers and spilled bytes of the kernels of every ready flow, against the bounds in registers.txt: what a kernel
// needs decides how many of its blocks a multiprocessor holds. Needs NVRTC and no GPU. After a change of the kernels:
//   VORTEX_UPDATE=1 build/tests/test_attention --gtest_filter='Registers*'    rewrites the file for review
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "attention/cuda/chain.h"
#include "base/thread_pool.h"
#include "device/cuda/nvrtc.h"

namespace vortex::attention {
namespace {

const std::filesystem::path kFlows = "tests/text/flows", kBounds = "tests/unit/attention/cuda/registers.txt";
// The shape of Qwen3-1.7B: what the tables of docs/gpu.md measure.
constexpr ir::Geometry kGeometry{.page_size = 16, .head_dim = 128, .group = 2, .value_dim = 0};
const char* const kArchitectures[] = {"sm_80", "sm_90a", "sm_100"};

struct Need {
  int registers = 0;
  long spilled = 0;  // bytes stored and loaded
};
using Needs = std::map<std::string, Need>;  // by "flow architecture kernel"

// What ptxas reports: "Compiling entry function 'NAME' ...", spills, then "Used N registers".
void read_log(const std::string& log, const std::string& before, Needs& out) {
  std::istringstream lines(log);
  std::string line, kernel;
  long spilled = 0;
  const auto number_before = [&](const char* words) {
    const std::size_t at = line.find(words);
    return at == std::string::npos ? 0L : std::strtol(line.c_str() + line.rfind(' ', at - 2) + 1, nullptr, 10);
  };
  while (std::getline(lines, line)) {
    if (const std::size_t at = line.find("entry function '"); at != std::string::npos) {
      const std::size_t begin = at + 16;
      kernel = line.substr(begin, line.find('\'', begin) - begin), spilled = 0;
    } else if (line.find("bytes spill stores") != std::string::npos) {
      spilled = number_before(" bytes spill stores") + number_before(" bytes spill loads");
    } else if (const std::size_t used = line.find("Used "); used != std::string::npos && !kernel.empty()) {
      out[concat(before, " ", kernel)] = {std::atoi(line.c_str() + used + 5), spilled};
      kernel.clear();
    }
  }
}

// Flows that CUDA refuses have none.
Needs needs_of(const std::string& flow, const std::string& architecture) {
  std::ifstream file(kFlows / (flow + ".txt"));
  std::ostringstream text;
  text << "vortex_ir 1\nflow \"" << flow << "\"\n" << file.rdbuf();
  Needs out;
  std::optional<device::Source> source;
  try {
    source = CudaFlowKernels::source(codegen::print_cuda(compiler::compile(ir::parse(text.str()), kGeometry)));
  } catch (const UserError&) {
    return out;
  }
  read_log(device::compile_text(*source, architecture).log, concat(flow, " ", architecture), out);
  EXPECT_GE(out.size(), source->kernels.size()) << flow << " for " << architecture << ": ptxas reports fewer kernels";
  return out;
}

std::vector<std::string> ready_flows() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kFlows)) out.push_back(entry.path().stem());
  std::sort(out.begin(), out.end());
  return out;
}

Needs read_bounds(std::string& version) {
  std::ifstream file(kBounds);
  Needs out;
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("# NVRTC ")) version = line.substr(8);
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string flow, architecture, kernel;
    Need need;
    words >> flow >> architecture >> kernel >> need.registers >> need.spilled;
    out[concat(flow, " ", architecture, " ", kernel)] = need;
  }
  return out;
}

class Registers : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      device::nvrtc_version();
    } catch (const MachineError& error) {
      GTEST_SKIP() << error.what();
    }
    bounds_ = read_bounds(version_);
    if (!updates_ && version_ != device::nvrtc_version())
      GTEST_SKIP() << "the bounds are of NVRTC " << version_ << "; this is " << device::nvrtc_version();
  }

  // Registers are given to a warp in eights of a lane: the bound is the next multiple.
  void expect_within(const Needs& needs) const {
    for (const auto& [name, need] : needs) {
      const auto found = bounds_.find(name);
      if (found == bounds_.end()) {
        ADD_FAILURE() << name << ": " << need.registers << " registers, " << need.spilled
                      << " bytes spilled; no bound in " << kBounds << "; VORTEX_UPDATE=1 writes it";
        continue;
      }
      EXPECT_LE(need.registers, found->second.registers) << name;
      EXPECT_LE(need.spilled, found->second.spilled) << name;
    }
  }

  Needs bounds_;
  std::string version_;
  const bool updates_ = std::getenv("VORTEX_UPDATE") != nullptr;
};

TEST_F(Registers, OfQuestAreWithinTheirBounds) {
  if (updates_) GTEST_SKIP() << "RegistersSlow rewrites all bounds";
  for (const char* architecture : kArchitectures) expect_within(needs_of("quest", architecture));
}

class RegistersSlow : public Registers {};

TEST_F(RegistersSlow, OfEveryReadyFlowAreWithinTheirBounds) {
  std::vector<std::pair<std::string, std::string>> work;
  for (const std::string& flow : ready_flows())
    for (const char* architecture : kArchitectures) work.emplace_back(flow, architecture);
  Needs needs;
  std::mutex mutex;
  ThreadPool threads(0);
  threads.for_each(std::ssize(work), [&](std::int64_t i, int) {
    const auto& [flow, architecture] = work[static_cast<std::size_t>(i)];
    const Needs some = needs_of(flow, architecture);
    const std::lock_guard lock(mutex);
    needs.insert(some.begin(), some.end());
  });
  ASSERT_GT(needs.size(), 50u);
  if (!updates_) {
    expect_within(needs);
    for (const auto& [name, need] : bounds_)
      EXPECT_TRUE(needs.contains(name)) << name << " has a bound and is no kernel of a ready flow";
    return;
  }
  std::ofstream file(kBounds);
  file << "# Bounds of registers a thread (the next multiple of eight) and of spilled bytes, by registers_test.cpp.\n"
       << "# Ready flows at page_size 16, head_dim 128, group 2: flow, architecture, kernel, registers, bytes.\n"
       << "# NVRTC " << device::nvrtc_version() << "\n";
  for (const auto& [name, need] : needs)
    file << name << " " << (need.registers + 7) / 8 * 8 << " " << need.spilled << "\n";
}

}  // namespace
}  // namespace vortex::attention
