// The whole tuned step, once with kernels that the last of their blocks finishes and once with a kernel for each op:
// the same lists and the same logits.
#include "gpu/fast_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "gpu/open.h"
#include "ir/program.h"
#include "support/flows.h"

namespace vortex::gpu_tests {
namespace {

struct StepCase {
  testing::NamedFlow (*flow)();
  int sequences, context, heads, kv_heads, page_size;
};

class Step : public ::testing::TestWithParam<StepCase> {};

TEST_P(Step, FusedKernelsDoWhatSingleOnesDo) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  if (device->architecture() != "sm_90a")
    GTEST_SKIP() << "the weight-streaming linears are compiled for sm_90a devices only";
  const StepCase c = GetParam();
  const StepModel model{.layers = 2,
                        .heads = c.heads,
                        .kv_heads = c.kv_heads,
                        .head_dim = 64,
                        .width = 512,
                        .ffn_width = 1024,
                        .vocabulary = 4096};
  const StepPool pool(device, model, 16, static_cast<std::int64_t>(c.sequences) * (c.context + 128), 5);
  const ir::Program program = ir::parse(c.flow().text("budget=24 page_size=" + std::to_string(c.page_size)));
  const compiler::Plan plan = compiler::compile(
      program, {.page_size = c.page_size, .head_dim = model.head_dim, .group = model.group(), .value_dim = 0});
  struct Way {
    const char* name;
    bool fused, select_apart;
  };
  std::vector<FastStep::Log> logs;
  for (const Way& way : {Way{"single kernels", false, false}, Way{"fused kernels", true, false},
                         Way{"scores for all to read, then selection", true, true}}) {
    FastStep step(
        device, pool, plan,
        {.sequences = c.sequences, .context = c.context, .fused = way.fused, .select_apart = way.select_apart});
    const auto graph = step.capture(static_cast<unsigned>(Part::all), true);
    for (int i = 0; i < 20; ++i) step.time(*graph, 1);  // over the end of a page of some sequences
    logs.push_back(step.log());
    if (logs.size() == 1) continue;

    const FastStep::Log &single = logs[0], &other = logs.back();
    ASSERT_EQ(single.listed.size(), other.listed.size());
    const std::size_t rows = single.listed.size(), of_layer = rows / 2;
    std::size_t same = 0;
    for (std::size_t row = 0; row < of_layer; ++row) {  // the first layer: later ones see other rounding
      EXPECT_EQ(single.listed[row], other.listed[row]) << way.name << ", row " << row;
      const std::size_t pages = static_cast<std::size_t>((other.listed[row] + 15) / 16);
      bool equal = true;
      for (std::size_t i = 0; i < pages; ++i) {
        const auto at = row * static_cast<std::size_t>(single.stride) + i;
        equal = equal && single.physical[at] == other.physical[at];
      }
      same += equal ? 1 : 0;
    }
    double error = 0, size = 0;
    for (std::size_t i = 0; i < single.logits.size(); ++i) {
      const double difference = static_cast<double>(single.logits[i]) - static_cast<double>(other.logits[i]);
      error += difference * difference,
          size += static_cast<double>(single.logits[i]) * static_cast<double>(single.logits[i]);
    }
    std::printf("MEASURED step of %d sequences of %d tokens, %s: %zu of %zu lists equal, logits differ by %.2g\n",
                c.sequences, c.context, way.name, same, of_layer, std::sqrt(error / size));
    EXPECT_EQ(single.tokens, other.tokens) << way.name;
    EXPECT_EQ(same, of_layer) << way.name;  // sums over a row do not hang on how many threads add them up
    EXPECT_LE(std::sqrt(error / size), 0.1) << way.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Step,
                         ::testing::Values(StepCase{testing::centroid_flow, 5, 1500, 8, 4, 16},
                                           StepCase{testing::centroid_flow, 70, 900, 16, 8, 16},
                                           StepCase{testing::centroid_flow, 150, 600, 16, 8, 16},
                                           StepCase{testing::centroid_flow, 2, 40000, 16, 8, 16},
                                           StepCase{testing::centroid_flow, 8, 3000, 16, 8, 16},
                                           StepCase{testing::centroid_flow, 3, 300, 8, 4, 16},  // all pages attended
                                           StepCase{testing::quest_flow, 3, 2000, 12, 2, 32},
                                           StepCase{testing::mean_deviation_flow, 1, 30000, 12, 12, 16}));

}  // namespace
}  // namespace vortex::gpu_tests
