// Budgets that flows compute: pages that rows attend, planned on a device and by the host.
#include <gtest/gtest.h>

#include <cstdio>

#include "attention/cuda/chain.h"
#include "device/null/null_device.h"
#include "gpu/open.h"
#include "ir/snippet.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;

// A score, and a budget as a flow or a snippet would compute it.
struct Budget {
  const char* name;
  const char* text;  // of the program after the score
  ir::FlowConfig config = {.page_size = 16, .sinks = 1, .recent = 2};
};

const Budget kBudgets[] = {
    {"a share", "%1 = seq_pages()\n%2 = constant(value=0.1)\n%3 = mul(%1, %2)\nbudget = %3\n"},
    {"a share and a number",
     "%1 = seq_pages()\n%2 = constant(value=0.3)\n%3 = mul(%1, %2)\n%4 = constant(value=3)\n%5 = sub(%3, %4)\nbudget = "
     "%5\n"},
    {"of the layer",
     "%1 = layer_index()\n%2 = layer_count()\n%3 = div(%1, %2)\n%4 = seq_pages()\n%5 = mul(%3, %4)\nbudget = %5\n"},
    {"of the step", "%1 = seq_step()\n%2 = sqrt(%1)\n%3 = constant(value=7)\n%4 = add(%2, %3)\nbudget = %4\n"},
    {"of tokens, in bounds",
     "%1 = seq_tokens()\n%2 = log(%1)\n%3 = constant(value=4)\n%4 = pow(%2, %3)\n%5 = clamp(%4, high=700.5, "
     "low=5.5)\nbudget = %5\n"},
    {"not a number", "%1 = constant(value=-1)\n%2 = seq_tokens()\n%3 = mul(%1, %2)\n%4 = sqrt(%3)\nbudget = %4\n"},
    {"where settings speak",
     "%1 = seq_pages()\nbudget = %1\n",
     {.page_size = 16, .budget = 9, .sinks = 1, .recent = 2}},
    {"a set of its own size", "%1 = constant(value=40)\n%2 = threshold(%0, %1)\nselect = %2\n"},
};

void run_all(const std::shared_ptr<device::Device>& device) {
  const auto stream = device->make_stream();
  std::vector<int> tokens;
  std::vector<std::int64_t> steps;
  for (int i = 0; i < 600; ++i) tokens.push_back(1 + i * 53 % 31337), steps.push_back(i * i);
  const int sequences = static_cast<int>(tokens.size());
  constexpr int kLayers = 12, kFirst = 2, kPlanned = 5;
  const Array<int> device_tokens = device::upload(device, *stream, tokens);
  const Array<std::int64_t> device_steps = device::upload(device, *stream, steps);
  for (const Budget& budget : kBudgets) {
    const bool is_set = std::string(budget.text).find("select") != std::string::npos;
    ir::Program program = ir::parse(std::string("vortex_ir 1\nflow \"budget\"\n%0 = page_index()\n") +
                                    (is_set ? "" : "score = %0\n") + budget.text);
    program.config = budget.config;
    const attention::CudaFlowKernels kernels(*device, compiler::compile(program, {16, 64, 2}));
    Array<cuda::SequencePlan> plans(device, kPlanned * sequences);
    plans.fill(*stream, 0xff);
    const attention::CudaLayer layer{
        .geometry = {2, 2, 64, 16, 0.125f, 0, 0},
        .kv = {},
        .batch = {sequences, nullptr, 0, device_tokens.data(), nullptr, device_steps.data()},
        .layer = kFirst,
        .layers = kLayers};
    kernels.plan(*stream, layer, kPlanned, nullptr, plans.data());
    const std::vector<cuda::SequencePlan> came = plans.download(*stream);
    if (device->kind() != device::Kind::cuda) continue;
    for (int of = 0; of < kPlanned; ++of)
      for (int s = 0; s < sequences; ++s) {
        const auto at = static_cast<std::size_t>(s);
        const ir::RowPages row = kernels.rows()(program.config, {.geometry = {.page_size = 16},
                                                                 .tokens = tokens[at],
                                                                 .step = steps[at],
                                                                 .layer = kFirst + of,
                                                                 .layers = kLayers,
                                                                 .scale = 0.125});
        const cuda::SequencePlan& plan = came[static_cast<std::size_t>(of * sequences + s)];
        ASSERT_EQ(plan.pages, row.pages) << budget.name;
        ASSERT_EQ(plan.candidates, row.candidates) << budget.name;
        ASSERT_EQ(plan.left, row.chosen) << budget.name << ", " << row.pages << " pages, layer " << kFirst + of;
        ASSERT_EQ(plan.chosen, row.open && row.selects() ? -1 : row.chosen) << budget.name << ", " << row.pages;
      }
    std::printf("MEASURED budget %s: %d plans equal the host's\n", budget.name, kPlanned * sequences);
  }
}

TEST(Budgets, ArePlanned) { run_all(device::open(device::Kind::null)); }

TEST(Budgets, AreThoseOfTheHost) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  run_all(device);
}

}  // namespace
}  // namespace vortex::gpu_tests
