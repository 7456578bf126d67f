// What a sequence carries from step to step, where a device holds it: here one whose memory is the host's.
#include "attention/row_memory.h"

#include <gtest/gtest.h>

#include "device/device.h"

namespace vortex::attention {
namespace {

constexpr std::int64_t kLayers = 2, kHeads = 3;

CarriedLayout layout_on(std::shared_ptr<device::Device> device) {
  return {.layers = kLayers,
          .kv_heads = kHeads,
          .page_size = 16,
          .states = {{"page", 2, true, 0.5f}, {"row", 3, false, -1.0f}},
          .device = std::move(device)};
}

// Every number of the memory is another one, the same in both memories.
void set_all(RowMemory& memory) {
  for (std::int64_t step = 0; step < 2; ++step)
    for (std::int64_t layer = 0; layer < kLayers; ++layer)
      for (std::int64_t head = 0; head < kHeads; ++head) {
        const float here = static_cast<float>((step * kLayers + layer) * kHeads + head) * 1000.0f;
        const codegen::StateView page = memory.state(0, layer, head, step, 0),
                                 row = memory.state(1, layer, head, step, 0);
        for (std::int64_t e = 0; e < 2; ++e)
          for (std::int64_t i = 0; i < 4; ++i) page.to[e * page.stride + i] = here + static_cast<float>(10 * e + i);
        for (std::int64_t e = 0; e < 3; ++e) row.to[e] = here + static_cast<float>(100 + e);
      }
}

void expect_all(RowMemory& memory, std::int64_t pages) {
  for (std::int64_t step = 0; step < 2; ++step)
    for (std::int64_t layer = 0; layer < kLayers; ++layer)
      for (std::int64_t head = 0; head < kHeads; ++head) {
        const float here = static_cast<float>((step * kLayers + layer) * kHeads + head) * 1000.0f;
        const codegen::StateView page = memory.state(0, layer, head, step, 0),
                                 row = memory.state(1, layer, head, step, 0);
        for (std::int64_t e = 0; e < 2; ++e)
          for (std::int64_t i = 0; i < pages; ++i)
            EXPECT_EQ(page.to[e * page.stride + i], i < 4 ? here + static_cast<float>(10 * e + i) : 0.5f);
        for (std::int64_t e = 0; e < 3; ++e) EXPECT_EQ(row.to[e], here + static_cast<float>(100 + e));
      }
}

TEST(RowMemory, ADeviceHasTheNumbersInOnePiece) {
  const auto device = device::open(device::Kind::cpu);
  const CarriedLayout layout = layout_on(device);
  RowMemory memory;
  memory.reserve(layout, 64);
  ASSERT_NE(memory.on_device(), nullptr);
  EXPECT_EQ(memory.bytes(), layout.bytes_for(64));
  EXPECT_EQ(device->allocated_bytes(), layout.bytes_for(64));
  EXPECT_EQ(memory.on_device()[0], 0.5f);
  EXPECT_EQ(memory.on_device()[2 * kLayers * kHeads * 2 * 4], -1.0f) << "the second state behind the first";
  memory.leave_device();
  EXPECT_EQ(memory.on_device(), nullptr);
  EXPECT_EQ(device->allocated_bytes(), 0);
  set_all(memory);
  memory.reserve(layout, 40);  // back, with room for no more
  ASSERT_NE(memory.on_device(), nullptr);
  EXPECT_EQ(memory.room(), 4);
  EXPECT_EQ(memory.on_device()[3], 6003.0f) << "layer 0, head 0, what steps of an even number read";
  memory.leave_device();
  expect_all(memory, 4);
}

TEST(RowMemory, GrowsAndIsCopiedThere) {
  const auto device = device::open(device::Kind::cpu);
  const CarriedLayout layout = layout_on(device);
  RowMemory memory;
  memory.reserve(layout, 64);
  memory.leave_device();
  set_all(memory);
  memory.reserve(layout, 64);
  RowMemory copy = memory;
  EXPECT_NE(copy.on_device(), memory.on_device());
  copy.reserve(layout, 130);
  EXPECT_EQ(copy.room(), 9);
  memory.forget(layout);
  EXPECT_EQ(memory.on_device()[1], 0.5f);
  copy.leave_device();
  expect_all(copy, 9);
  memory = copy;
  expect_all(memory, 9);
}

}  // namespace
}  // namespace vortex::attention
