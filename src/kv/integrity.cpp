#include "kv/integrity.h"

#include "base/check.h"

namespace vortex::kv {

void check_integrity(const PagePool& pool, std::span<const PageTable* const> tables, const PrefixTree* tree,
                     std::span<const PrefixTree::NodeId> locked) {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(pool.size()), 0);
  for (const PageTable* table : tables) {
    table->check_integrity(pool);
    for (Page page : table->pages()) ++counts[static_cast<std::size_t>(page)];
  }
  if (tree != nullptr) tree->check_integrity(locked, counts);
  pool.check_integrity(counts);
}

}  // namespace vortex::kv
