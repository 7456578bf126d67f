// What the decode chain refuses on CUDA, in words. Needs no GPU.
#include "attention/cuda/chain.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include "base/text.h"
#include "device/device.h"
#include "ir/op.h"
#include "kernels/cuda/linear.h"

namespace vortex::attention {
namespace {

TEST(CudaChain, SaysWhichModelDoesNotFitABlock) {
  const auto device = device::open(device::Kind::null);
  const auto stream = device->make_stream();
  const CudaChain chain(*device);
  CudaLayer layer{};
  layer.geometry = {
      .kv_heads = 1, .group = 64, .head_dim = 128, .page_size = 16, .scale = 1.0f, .value_dim = 0, .values_in_keys = 0};
  layer.batch.sequences = 1;
  try {
    chain.attend(*stream, layer, {}, 64, nullptr, {});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[attend] at most 12032 numbers of q and weights a block are supported on CUDA; group 64 · (head_dim "
                 "128 + 128) = 16384; run this model on the cpu");
  }
}

TEST(CudaChain, RefusesValuesOfAnotherShapeThanKeys) {
  const auto device = device::open(device::Kind::null);
  const auto stream = device->make_stream();
  const CudaChain chain(*device);
  CudaLayer layer{};
  layer.geometry = {.kv_heads = 1,
                    .group = 16,
                    .head_dim = 576,
                    .page_size = 16,
                    .scale = 1.0f,
                    .value_dim = 512,
                    .values_in_keys = 1};
  layer.batch.sequences = 1;
  try {
    chain.append(*stream, layer, nullptr, nullptr, 576);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "[attention] values with as many channels as keys, stored beside them, are supported on CUDA; head_dim "
        "576, value_dim 512, values_in_keys 1; run this model on the cpu");
  }
}

TEST(CudaChain, RefusesKvOfAnotherType) {
  const auto device = device::open(device::Kind::null);
  const auto stream = device->make_stream();
  const CudaChain chain(*device);
  CudaLayer layer{};
  layer.geometry.kv_heads = layer.batch.sequences = 1;
  layer.kv.dtype = VORTEX_INT8;
  try {
    chain.append(*stream, layer, nullptr, nullptr, 64);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "[attention] KV in bfloat16, which these kernels were made for; int8; store K and V in bfloat16, or have "
        "kernels made for int8 if there are any");
  }
}

TEST(CudaChain, SaysHowManySummariesAFlowMayHave) {
  ir::Program program;
  program.name = "many";
  program.config.budget = 8;
  const auto make = [&](const char* op, std::vector<ir::ValueId> inputs, ir::Attributes attributes) {
    return ir::append(program, ir::op_named(op), std::move(inputs), std::move(attributes), {});
  };
  ir::ValueId sum = -1;
  for (std::int64_t i = 0; i < 17; ++i) {
    const ir::ValueId cut = make("slice", {make("page_k", {}, {})}, {{"axis", "dim"}, {"start", i}, {"stop", i + 1}});
    const std::string name = concat("s", i);
    ir::declare_summary(program, name, make("max", {cut}, {{"axis", "token"}}), {});
    const ir::ValueId read = make("summary", {}, {{"name", name}});
    sum = sum < 0 ? read : make("add", {sum, read}, {});
  }
  program.score = make("sum", {sum}, {{"axis", "dim"}});
  const auto device = device::open(device::Kind::null);
  try {
    CudaFlowKernels(*device, compiler::compile(program, {16, 64, 3}));
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[flow many] at most 16 summaries are supported on CUDA; 17 summaries; merge summaries, or run the "
                 "flow on the cpu");
  }
}

TEST(CudaChain, SaysWhichGeometriesTheTunedKernelServes) {
  const auto device = device::open(device::Kind::null);
  try {
    CudaChain(*device, {2, 3, 80, 16, 1.0f, 0, 0});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "[attend] head_dim 64, 128, 192 or 256 and at most 16 query heads a KV head were required of the tuned "
        "kernel; head_dim 80, group 3; use the plain kernel");
  }
}

TEST(StreamedLinear, SaysWhichShapesItServes) {
  using kernels::Epilogue, kernels::StreamedLinear;
  const auto words = [](const kernels::LinearShape& shape) -> std::string {
    try {
      StreamedLinear::resolve(shape);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(
      words({.epilogue = Epilogue::plain, .rows = 264, .in = 512, .out = 512}),
      "[linear plain] a multiple of 8 rows, at most 256, was required; 264 rows; round up, or run the rows in parts");
  EXPECT_EQ(
      words({.epilogue = Epilogue::residual, .rows = 8, .in = 576, .out = 100}),
      "[linear residual] input channels in multiples of 64 and output channels in multiples of 64 were required; 576 "
      "in, 100 out; run this model on the cpu");
  EXPECT_EQ(
      words({.epilogue = Epilogue::swiglu, .rows = 8, .in = 512, .out = 192}),
      "[linear swiglu] input channels in multiples of 64 and output channels in multiples of 128 were required; 512 "
      "in, 192 out; run this model on the cpu");
  EXPECT_EQ(words({.epilogue = Epilogue::plain, .rows = 64, .in = 512, .out = 512, .split = 16}),
            "[linear plain] a cut that a block and a cluster can hold was required; 512x512, 64 channels of 64 rows a "
            "block, split 16; leave the cut to the shape");
  EXPECT_EQ(words({.epilogue = Epilogue::swiglu, .rows = 64, .in = 2048, .out = 12288}), "");
}

}  // namespace
}  // namespace vortex::attention
