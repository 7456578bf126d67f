// The one check over pool, tables and tree together: every reference is counted anew from those who hold it.
#pragma once

#include <span>

#include "kv/table.h"
#include "kv/tree.h"

namespace vortex::kv {

// tables: every live table. tree: null when there is none; locked: its locks, one entry each. InternalError on any
// leak, double use or broken link.
void check_integrity(const PagePool&, std::span<const PageTable* const> tables, const PrefixTree* tree,
                     std::span<const PrefixTree::NodeId> locked);

}  // namespace vortex::kv
