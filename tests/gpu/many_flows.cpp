// Prints the flows behind one another and hands out the kernels of the unit.
#include "gpu/many_flows.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/check.h"
#include "base/text.h"

namespace vortex::gpu_tests {
namespace {

constexpr const char* kKernels = "attention/cuda/flow_kernels.cuh";
constexpr const char* kOfAStep = "attention/cuda/score_cluster.cuh";  // kernels of a step, not of scores alone

// A flow's part of a module of many.
class PartOfModule : public device::Module {
 public:
  PartOfModule(std::shared_ptr<device::Module> all, std::string prefix)
      : all_(std::move(all)), prefix_(std::move(prefix)) {}
  const device::Kernel& kernel(std::string_view name) const override { return all_->kernel(concat(prefix_, name)); }
  const device::BuildReport& report() const override { return all_->report(); }

 private:
  std::shared_ptr<device::Module> all_;
  std::string prefix_;
};

void load_unit(device::Device& device, std::span<PackedFlow* const> flows) {
  const std::shared_ptr<device::Module> all = device.load(source_of(flows));
  for (PackedFlow* flow : flows)
    flow->kernels = std::make_unique<attention::CudaFlowKernels>(flow->printed, flow->config,
                                                                 std::make_unique<PartOfModule>(all, flow->prefix));
}

}  // namespace

device::Source source_of(std::span<PackedFlow* const> flows) {
  device::Source out;
  out.name = concat("many_", flows.front()->prefix);
  out.headers = attention::CudaFlowKernels::source(flows.front()->printed).headers;
  out.text = "#define VORTEX_SCORES_ALONE\n#pragma nv_diag_suppress 177\n";  // constants of kernels that are left out
  std::string kernels;  // of the chain, as text: they stand once for each flow
  for (const device::Header& header : out.headers) {
    if (header.name == kKernels) {
      kernels = header.text.substr(header.text.find("#pragma once") + 12);
    } else if (header.name != kOfAStep) {
      out.text += concat("#include \"", header.name, "\"\n");
    }
  }
  for (const PackedFlow* flow : flows) {
    device::Source one = attention::CudaFlowKernels::source(flow->printed);
    std::erase_if(one.kernels, [](const std::string& kernel) {
      return kernel == "prepare" || kernel == "finish_and_select" || kernel == "score_and_select" ||
             kernel == "score_row" || kernel.starts_with("select_by_");
    });
    out.text +=
        concat("#undef VORTEX_SCORE\n#define cuda cuda::", flow->prefix.substr(0, flow->prefix.size() - 1), "\n");
    for (const std::string& kernel : one.kernels)
      out.text += concat("#define ", kernel, "(...) ", flow->prefix, kernel, "(__VA_ARGS__)\n");
    const std::size_t include = one.text.find(concat("#include \"", kKernels, "\""));
    VORTEX_CHECK(include != std::string::npos && !kernels.empty(), "the text of a flow ends with ", kKernels);
    out.text += one.text.substr(0, include) + kernels + "\n#undef cuda\n";
    for (const std::string& kernel : one.kernels) {
      out.text += concat("#undef ", kernel, "\n");
      out.kernels.push_back(flow->prefix + kernel);
    }
  }
  return out;
}

void load(device::Device& device, std::span<PackedFlow* const> flows, int most_of_a_unit, ThreadPool& threads) {
  const std::int64_t of_a_unit =
      std::min<std::int64_t>(most_of_a_unit, std::max<std::int64_t>(1, std::ssize(flows) / threads.threads()));
  const std::int64_t units = (std::ssize(flows) + of_a_unit - 1) / of_a_unit;
  std::vector<std::string> failures(flows.size());
  threads.for_each(units, [&](std::int64_t unit, int) {
    const std::size_t begin = static_cast<std::size_t>(unit * of_a_unit);
    const std::span<PackedFlow* const> some =
        flows.subspan(begin, std::min<std::size_t>(static_cast<std::size_t>(of_a_unit), flows.size() - begin));
    try {
      load_unit(device, some);
    } catch (const Error& all) {
      std::printf("      %s\n      so its flows compile one by one\n", all.what());
      for (std::size_t i = 0; i < some.size(); ++i) {
        try {
          load_unit(device, some.subspan(i, 1));
        } catch (const Error& error) {
          failures[begin + i] = concat(some[i]->name, ": ", error.what());
        }
      }
    }
  });
  for (const std::string& failure : failures)
    if (!failure.empty()) ADD_FAILURE() << failure;
}

}  // namespace vortex::gpu_tests
