// All device text compiles for the oldest and the newest architecture that is promised, without warnings and without
// spills. Needs NVRTC and no GPU.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cstdio>

#include "attention/cuda/chain.h"
#include "attention/cuda/prefill.h"
#include "device/cuda/nvrtc.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/model.h"
#include "kernels/cuda/step.h"
#include "support/flows.h"

namespace vortex::attention {
namespace {

using vortex::testing::NamedFlow, vortex::testing::centroid_flow, vortex::testing::quest_flow,
    vortex::testing::mean_deviation_flow, vortex::testing::everything_flow, vortex::testing::top_p_flow,
    vortex::testing::two_streams_flow, vortex::testing::rest_flow, vortex::testing::confined_flow,
    vortex::testing::budgeted_flow;

class CompileSlow : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    try {
      device::nvrtc_version();
    } catch (const MachineError& error) {
      GTEST_SKIP() << error.what();
    }
  }
  void expect_compiles(const device::Source& source) {
    const device::Compiled compiled = device::compile_text(source, GetParam());
    EXPECT_FALSE(compiled.binary.empty());
    EXPECT_EQ(compiled.log.find("warning"), std::string::npos) << compiled.log;
    RecordProperty("registers", compiled.log);
    for (const std::string& kernel : source.kernels) {
      // ptxas reports each kernel: "... Function properties for NAME ... 0 bytes spill stores, 0 bytes spill loads".
      const std::size_t at = compiled.log.find("Function properties for " + kernel);
      ASSERT_NE(at, std::string::npos) << kernel << ": " << compiled.log;
      const std::size_t spilled = compiled.log.find(" bytes stack frame, ", at);
      ASSERT_NE(spilled, std::string::npos) << kernel << ": " << compiled.log;
      int stores = -1, loads = -1;
      std::sscanf(compiled.log.c_str() + spilled, " bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                  &stores, &loads);
      // finish_scores runs where no kernel selects as it scores; it keeps a few values across calls.
      const int most = kernel == "finish_scores" ? 16 : 0;
      EXPECT_TRUE(stores >= 0 && stores <= most && loads >= 0 && loads <= most) << kernel << ": " << compiled.log;
    }
  }
};

TEST_P(CompileSlow, StepKernels) { expect_compiles(kernels::CudaStepKernels::source()); }
TEST_P(CompileSlow, Flows) {
  const ir::Geometry geometry{.page_size = 16, .head_dim = 64, .group = 3};
  struct Case {
    NamedFlow flow;
    const char* config = "budget=8";
  };
  for (const auto& [flow, config] :
       {Case{centroid_flow()}, Case{quest_flow()}, Case{mean_deviation_flow()}, Case{everything_flow()},
        Case{top_p_flow()}, Case{two_streams_flow()}, Case{rest_flow()}, Case{confined_flow()},
        Case{budgeted_flow(), "budget=0"}, Case{centroid_flow(), "budget=8 refresh_every=4"},
        Case{two_streams_flow(), "budget=8 refresh_every=4"}}) {
    const ir::Program program = ir::parse(flow.text(config));
    ir::verify(program, geometry);
    expect_compiles(CudaFlowKernels::source(codegen::print_cuda(compiler::compile(program, geometry))));
  }
}
TEST_P(CompileSlow, KvInBytes) {
  const ir::Geometry geometry{.page_size = 16, .head_dim = 128, .group = 2};
  const ir::Program program = ir::parse(centroid_flow().text("budget=8"));
  ir::verify(program, geometry);
  const codegen::CudaFlow flow = codegen::print_cuda(compiler::compile(program, geometry));
  for (const vortex_dtype stored : {VORTEX_INT8, VORTEX_FP8}) {
    expect_compiles(CudaFlowKernels::source(flow, stored));
    expect_compiles(CudaPrefill::source({8, 2, 128, 16, 1, 0, 0}, stored));
    for (const int group : {2, 6, 16})
      expect_compiles(CudaChain::attend_source({8, group, 128, 16, 1, 0, 0}, GetParam(), stored));
  }
}
TEST_P(CompileSlow, Chain) { expect_compiles(CudaChain::source()); }
TEST_P(CompileSlow, TunedAttend) {
  for (const vortex_geometry& geometry :
       {vortex_geometry{8, 2, 128, 16, 1, 0, 0}, vortex_geometry{8, 4, 64, 8, 1, 0, 0},
        vortex_geometry{2, 6, 128, 16, 1, 0, 0}, vortex_geometry{2, 8, 128, 64, 1, 0, 0},
        vortex_geometry{2, 16, 128, 16, 1, 0, 0}})
    expect_compiles(CudaChain::attend_source(geometry, GetParam()));
}
TEST_P(CompileSlow, Prefill) {
  for (const vortex_geometry& geometry :
       {vortex_geometry{8, 2, 128, 16, 1, 0, 0}, vortex_geometry{3, 3, 64, 16, 1, 0, 0},
        vortex_geometry{2, 6, 128, 1, 1, 0, 0}})
    expect_compiles(CudaPrefill::source(geometry));
}
TEST_P(CompileSlow, ModelKernels) { expect_compiles(kernels::CudaModelKernels::source()); }
TEST_P(CompileSlow, FullAttention) {
  expect_compiles(CudaFlowKernels::source(
      codegen::print_cuda_without_flow({.page_size = 16, .head_dim = 128, .group = 2, .value_dim = 0})));
}
TEST_P(CompileSlow, StreamedLinears) {
  using kernels::Epilogue;
  expect_compiles(kernels::LinearHelpers::source());
  if (std::string_view(GetParam()) != "sm_90a") return;  // the linear refuses other devices
  for (const int rows : {8, 96, 256}) {
    for (const kernels::LinearShape& shape :
         {kernels::LinearShape{.epilogue = Epilogue::plain, .rows = rows, .in = 2048, .out = 4096},
          kernels::LinearShape{.epilogue = Epilogue::swiglu, .rows = rows, .in = 2048, .out = 12288},
          kernels::LinearShape{.epilogue = Epilogue::residual, .rows = rows, .in = 6144, .out = 2048},
          kernels::LinearShape{.epilogue = Epilogue::likeliest, .rows = rows, .in = 2048, .out = 151936}})
      expect_compiles(kernels::StreamedLinear::source(kernels::StreamedLinear::resolve(shape)));
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, CompileSlow, ::testing::Values("sm_80", "sm_90a", "sm_100"),
                         [](const auto& chosen) { return std::string(chosen.param); });

}  // namespace
}  // namespace vortex::attention
