#include <gtest/gtest.h>
#include <vortex/error.h>

#include "kv/integrity.h"

namespace vortex::kv {
namespace {

std::vector<std::int32_t> tokens_of(std::int32_t first, std::int64_t count) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(first + static_cast<std::int32_t>(i));
  return out;
}

TEST(Pool, PagesComeBackWhenTheLastReferenceGoes) {
  PagePool pool(2);
  std::vector<Page> forgotten;
  pool.on_free([&](Page page) { forgotten.push_back(page); });
  Page page = pool.allocate(kDense);
  pool.share(page);
  pool.free(page);
  EXPECT_TRUE(forgotten.empty());
  EXPECT_FALSE(pool.can_allocate(2));
  pool.free(page);
  EXPECT_EQ(forgotten, std::vector<Page>{page});
  EXPECT_TRUE(pool.can_allocate(2));
  EXPECT_THROW(pool.free(page), InternalError);
}

TEST(Pool, IntegrityCheckFindsALeak) {
  PagePool pool(4);
  PageTable table(4);
  table.append(pool, 5, kDense);
  const PageTable* tables[] = {&table};
  check_integrity(pool, tables, nullptr, {});
  Page leaked = pool.allocate(kDense);
  EXPECT_THROW(check_integrity(pool, tables, nullptr, {}), InternalError);
  pool.free(leaked);
  EXPECT_THROW(check_integrity(pool, {}, nullptr, {}), InternalError);
  table.release(pool);
  check_integrity(pool, {}, nullptr, {});
}

TEST(Table, ForkCopiesThePartlyFilledPageOnWrite) {
  PagePool pool(8);
  PageTable first(4);
  first.append(pool, 6, kDense);
  PageTable second = first.fork(pool);
  EXPECT_EQ(pool.free_count(), 6);
  EXPECT_EQ(second.pages_needed(pool, 1), 1);
  PageTable::Copy copy = second.append(pool, 1, kDense);
  EXPECT_EQ(copy.from, first.pages()[1]);
  EXPECT_EQ(copy.to, second.pages()[1]);
  EXPECT_EQ(first.pages()[0], second.pages()[0]);
  EXPECT_EQ(first.append(pool, 1, kDense).from, -1) << "the page is its own again";
  first.release(pool);
  second.release(pool);
  EXPECT_EQ(pool.free_count(), 8);
}

TEST(Table, ForkOnAPageBoundaryCopiesNothing) {
  PagePool pool(8);
  PageTable first(4);
  first.append(pool, 8, kDense);
  PageTable second = first.fork(pool);
  EXPECT_EQ(second.pages_needed(pool, 1), 1);
  EXPECT_EQ(second.append(pool, 1, kDense).from, -1);
  first.release(pool);
  second.release(pool);
}

TEST(Table, OriginSpreadsFromTheFirstSparseToken) {
  PagePool pool(8);
  PageTable table(4);
  table.append(pool, 6, kDense);
  table.append(pool, 1, 3);
  EXPECT_EQ(pool.origin(table.pages()[0]), kDense);
  EXPECT_EQ(pool.origin(table.pages()[1]), 3) << "half dense, half sparse is sparse";
  table.append(pool, 4, kDense);
  EXPECT_EQ(pool.origin(table.pages()[2]), 3) << "prefilled after sparse KV";
  EXPECT_THROW(table.append(pool, 1, 4), InternalError);
  table.truncate(pool, 4);
  EXPECT_EQ(table.origin(), kDense);
  table.release(pool);
}

class Tree : public testing::Test {
 protected:
  // Inserts `count` tokens from `first`, the first `dense` of them dense, the rest by `origin`, and lets go of them.
  void remember(std::int32_t first, std::int64_t count, std::int64_t dense, Origin origin) {
    PageTable table(4);
    table.append(pool, dense, kDense);
    table.append(pool, count - dense, origin);
    tree.insert(tokens_of(first, count), table.pages().first(static_cast<std::size_t>(table.full_pages())));
    table.release(pool);
  }
  std::size_t hit(std::int32_t first, std::int64_t count, Origin origin) {
    std::vector<Page> pages;
    tree.match(tokens_of(first, count), origin, pages);
    return pages.size();
  }
  void TearDown() override {
    check_integrity(pool, {}, &tree, {});
    tree.evict(pool.size());
    EXPECT_EQ(pool.free_count(), pool.size());
  }

  PagePool pool{16};
  PrefixTree tree{pool, 4};
};

TEST_F(Tree, FullAttentionNeverHitsASparsePage) {
  remember(0, 16, 8, 1);
  EXPECT_EQ(hit(0, 16, kDense), 2u);
  EXPECT_EQ(hit(0, 16, 1), 4u) << "a dense prefix and the flow's own pages are one path";
  EXPECT_EQ(hit(0, 16, 2), 2u);
}

TEST_F(Tree, AFlowTakesTheLongestPathItMayUse) {
  remember(0, 16, 4, 1);   // one dense page, three of flow 1
  remember(0, 12, 12, 0);  // three dense pages
  EXPECT_EQ(hit(0, 16, 1), 4u);
  EXPECT_EQ(hit(0, 12, 1), 3u);
  std::vector<Page> pages;
  EXPECT_EQ(tree.origin_of(tree.match(tokens_of(0, 12), 1, pages)), kDense) << "equally long: dense";
  EXPECT_EQ(hit(0, 16, kDense), 3u);
}

TEST_F(Tree, MatchesWholePagesOnly) {
  remember(0, 11, 11, 0);
  EXPECT_EQ(tree.pages(), 2);
  EXPECT_EQ(hit(0, 11, kDense), 2u);
  EXPECT_EQ(hit(0, 7, kDense), 1u);
  EXPECT_EQ(hit(1, 11, kDense), 0u);
}

TEST_F(Tree, EvictsTheLeastRecentlyUsedUnlockedLeaf) {
  remember(0, 8, 8, 0);
  remember(100, 8, 8, 0);
  EXPECT_EQ(hit(0, 8, kDense), 2u);  // 100 is older now
  EXPECT_EQ(tree.evict(1), 1);
  EXPECT_EQ(hit(100, 8, kDense), 1u);
  std::vector<Page> pages;
  PrefixTree::NodeId node = tree.match(tokens_of(100, 8), kDense, pages);
  tree.lock(node);
  EXPECT_EQ(tree.evict(16), 2) << "the locked page stays";
  EXPECT_EQ(hit(100, 8, kDense), 1u);
  tree.unlock(node);
  EXPECT_THROW(tree.unlock(node), InternalError);
}

TEST_F(Tree, IntegrityCheckFindsAForgottenLock) {
  remember(0, 8, 8, 0);
  std::vector<Page> pages;
  PrefixTree::NodeId node = tree.match(tokens_of(0, 8), kDense, pages);
  tree.lock(node);
  EXPECT_THROW(check_integrity(pool, {}, &tree, {}), InternalError);
  tree.unlock(node);
}

}  // namespace
}  // namespace vortex::kv
