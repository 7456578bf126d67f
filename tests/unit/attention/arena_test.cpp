#include "attention/arena.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <set>

namespace vortex::attention {
namespace {

TEST(Arena, FieldsOfLayersPagesAndHeadsDoNotOverlap) {
  std::vector<codegen::FieldLayout> fields = {{"lo", 3, ir::DType::bf16}, {"mass", 1, ir::DType::f32}};
  SummaryArena arena(fields, 2, 5, 3);
  EXPECT_EQ(arena.bytes(), 2 * 5 * 3 * (3 * 2 + 4) + 5);
  EXPECT_EQ(arena.bytes(), SummaryArena::bytes_for(fields, 2, 5, 3));
  EXPECT_EQ(arena.bytes_per_page(), 10);
  std::set<const void*> seen;
  for (int layer = 0; layer < 2; ++layer)
    for (int head = 0; head < 3; ++head)
      for (int page = 0; page < 5; ++page) {
        codegen::FieldView lo = arena.block(layer, 0).of_head(head), mass = arena.block(layer, 1).of_head(head);
        for (int e = 0; e < 3; ++e) {
          auto* element = static_cast<BFloat16*>(lo.base) + page * lo.page_stride + e;
          element->bits = 7;
          EXPECT_TRUE(seen.insert(element).second);
        }
        auto* element = static_cast<float*>(mass.base) + page * mass.page_stride;
        *element = 7;
        EXPECT_TRUE(seen.insert(element).second);
      }
  EXPECT_EQ(seen.size(), 2u * 5 * 3 * 4);
}

TEST(Arena, PagesStartInvalid) {
  std::vector<codegen::FieldLayout> fields = {{"mean", 4, ir::DType::bf16}};
  SummaryArena arena(fields, 1, 4, 1);
  EXPECT_FALSE(arena.is_valid(2));
  arena.validate(2);
  EXPECT_TRUE(arena.is_valid(2));
  EXPECT_FALSE(arena.is_valid(1));
  arena.invalidate(2);
  EXPECT_FALSE(arena.is_valid(2));
}

TEST(Arena, SaysWhatDidNotFit) {
  std::vector<codegen::FieldLayout> fields = {{"mean", 1 << 20, ir::DType::bf16}};
  try {
    SummaryArena arena(fields, 1 << 10, 1 << 18, 1 << 10);
    FAIL() << "half an exabyte was given";
  } catch (const MachineError& error) {
    EXPECT_NE(std::string(error.what()).find("field \"mean\""), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("use fewer pages"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vortex::attention
