// Devices that need no hardware: plain memory, and the null device that records.
#include "device/device.h"

#include <gtest/gtest.h>

#include "device/null/null_device.h"

namespace vortex::device {
namespace {

TEST(CpuDevice, CopiesThroughMemoryAndCountsIt) {
  const auto device = open(Kind::cpu);
  const auto stream = device->make_stream();
  {
    const std::vector<int> values = {1, 2, 3};
    const Array<int> array = upload(device, *stream, values);
    EXPECT_EQ(device->allocated_bytes(), 12);
    EXPECT_EQ(array.download(*stream), values);
  }
  EXPECT_EQ(device->allocated_bytes(), 0);
}

TEST(CpuDevice, CapturedWorkRunsAtLaunchOnly) {
  const auto device = open(Kind::cpu);
  const auto stream = device->make_stream();
  Array<char> array(device, 2);
  array.fill(*stream, 7);
  stream->begin_capture();
  array.fill(*stream, 9);
  const auto graph = stream->end_capture();
  EXPECT_EQ(graph->nodes(), 1);
  EXPECT_EQ(array.download(*stream), std::vector<char>({7, 7}));
  stream->launch(*graph);
  EXPECT_EQ(array.download(*stream), std::vector<char>({9, 9}));
}

TEST(CpuDevice, SaysWhatDidNotFit) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer ends the program when memory runs out, where this test expects an error";
#endif
  try {
    open(Kind::cpu)->allocate(std::int64_t{1} << 60);
    FAIL();
  } catch (const MachineError& error) {
    EXPECT_STREQ(error.what(),
                 "[device cpu] 1152921504606846976 bytes of memory were required; the system has not enough; use a "
                 "smaller pool or a smaller model");
  }
}

TEST(CpuDevice, RefusesCudaTextInWords) {
  try {
    open(Kind::cpu)->load({"quest", "", {}, {}});
    FAIL();
  } catch (const MachineError& error) {
    EXPECT_STREQ(error.what(),
                 "[device cpu] a device that runs CUDA kernels was required by quest; the cpu device, which runs none; "
                 "open a cuda device, or the null device to plan without one");
  }
}

TEST(NullDevice, RecordsWorkAndWhatIsCaptured) {
  const auto device = std::dynamic_pointer_cast<NullDevice>(open(Kind::null));
  const auto stream = device->make_stream();
  const auto module = device->load({"m", "extern \"C\" __global__ void plan(Plan p) {}", {}, {"plan"}});
  Array<float> array(device, 8);
  const std::vector<float> host(8);
  array.upload(*stream, host.data());
  stream->begin_capture();
  stream->launch(module->kernel("plan"), {4}, {32}, 0);
  stream->launch(module->kernel("plan"), {4}, {32}, 0, 64, Start::early, 2);
  array.fill(*stream, 0);
  const auto graph = stream->end_capture();
  stream->launch(*graph);
  EXPECT_EQ(device->log(),
            std::vector<std::string>({"copy 32 bytes to_device", "captured kernel plan grid 4x1x1 block 32x1x1",
                                      "captured kernel plan grid 4x1x1 block 32x1x1 cluster 2 shared 64",
                                      "captured fill 32 bytes with 0", "graph of 3"}));
  EXPECT_EQ(device->allocated_bytes(), 32);
}

TEST(NullDevice, RefusesWhatHardwareWouldRefuse) {
  const auto device = open(Kind::null);
  const auto stream = device->make_stream();
  Array<float> array(device, 8);
  const std::vector<float> host(9);
  EXPECT_THROW(stream->copy(array.data(), host.data(), 36, Direction::to_device), InternalError);  // past its end
  EXPECT_THROW(device->load({"m", "", {}, {"plan"}}), InternalError);                              // no such kernel
  const auto module = device->load({"m", "void plan(Plan p) {}", {}, {"plan"}});
  EXPECT_THROW(stream->launch(module->kernel("plan"), {0}, {32}, 0), InternalError);
  EXPECT_THROW(stream->launch(module->kernel("plan"), {1}, {2048}, 0), InternalError);
  EXPECT_THROW(stream->launch(module->kernel("plan"), {3}, {32}, 0, 0, Start::early, 2),
               InternalError);  // no whole clusters
  stream->begin_capture();
  EXPECT_THROW(stream->synchronize(), InternalError);  // the host may not look while a step is captured
  EXPECT_THROW(stream->copy(const_cast<float*>(host.data()), array.data(), 4, Direction::to_host), InternalError);
}

TEST(CudaDevice, SaysWhatIsMissing) {
  try {
    open(Kind::cuda);
  } catch (const MachineError& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.rfind("[device cuda] ", 0), 0u) << text;
    EXPECT_NE(text.find("was required; "), std::string::npos) << text;
    EXPECT_TRUE(text.find("NVIDIA driver") != std::string::npos || text.find("NVRTC") != std::string::npos ||
                text.find("build with the CUDA device") != std::string::npos ||
                text.find("device 0") != std::string::npos)
        << text;
    return;
  }
  // A GPU is there: then a device that is not there is named.
  try {
    open(Kind::cuda, 999);
    FAIL();
  } catch (const MachineError& error) {
    EXPECT_NE(std::string(error.what()).find("device 999 was required; the driver shows "), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace vortex::device
