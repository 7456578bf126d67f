#include "kv/tree.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"

namespace vortex::kv {

PrefixTree::PrefixTree(PagePool& pool, std::int64_t page_size) : pool_(pool), page_size_(page_size), nodes_(1) {}

std::uint64_t PrefixTree::key_of(NodeId parent, Origin origin, std::span<const std::int32_t> tokens) const {
  Hash hash;
  hash.add(static_cast<std::uint64_t>(parent) << 32 | static_cast<std::uint32_t>(origin));
  for (std::int32_t token : tokens) hash.add(static_cast<std::uint64_t>(token));
  return hash.value();
}

PrefixTree::NodeId PrefixTree::child(NodeId parent, Origin origin, std::span<const std::int32_t> tokens) const {
  auto found = index_.find(key_of(parent, origin, tokens));
  if (found == index_.end()) return -1;
  const Node& candidate = node(found->second);
  bool same = candidate.parent == parent && candidate.origin == origin && std::ranges::equal(candidate.tokens, tokens);
  return same ? found->second : -1;
}

template <class Change>
void PrefixTree::update(NodeId id, Change&& change) {
  if (evictable(node(id))) leaves_.erase({node(id).last_use, id});
  unlocked_ -= unlocked(node(id));
  change(node(id));
  unlocked_ += unlocked(node(id));
  if (evictable(node(id))) leaves_.insert({node(id).last_use, id});
}

void PrefixTree::touch(NodeId id) {
  ++clock_;
  for (; id != kRoot; id = node(id).parent) update(id, [&](Node& it) { it.last_use = clock_; });
}

PrefixTree::NodeId PrefixTree::match(std::span<const std::int32_t> tokens, Origin origin, std::vector<Page>& pages) {
  std::int64_t limit = static_cast<std::int64_t>(tokens.size()) / page_size_;
  auto page_tokens = [&](std::int64_t index) {
    return tokens.subspan(static_cast<std::size_t>(index * page_size_), static_cast<std::size_t>(page_size_));
  };
  auto walk = [&](NodeId from, std::int64_t depth, Origin edge) {
    while (depth < limit) {
      NodeId next = child(from, edge, page_tokens(depth));
      if (next < 0) break;
      from = next;
      ++depth;
    }
    return std::pair(depth, from);
  };
  auto [dense_depth, dense] = walk(kRoot, 0, kDense);
  auto [best_depth, best] = std::pair(dense_depth, dense);
  if (origin != kDense) {  // leave the dense path at any depth; the longest wins, then the later departure
    NodeId departure = dense;
    for (std::int64_t depth = dense_depth;; --depth, departure = node(departure).parent) {
      auto [length, end] = walk(departure, depth, origin);
      if (length > best_depth) std::tie(best_depth, best) = std::pair(length, end);
      if (depth == 0) break;
    }
  }
  pages.assign(static_cast<std::size_t>(best_depth), -1);
  NodeId up = best;
  for (std::int64_t depth = best_depth; depth-- > 0; up = node(up).parent)
    pages[static_cast<std::size_t>(depth)] = node(up).page;
  touch(best);
  return best;
}

PrefixTree::NodeId PrefixTree::insert(std::span<const std::int32_t> tokens, std::span<const Page> pages) {
  VORTEX_CHECK(tokens.size() >= pages.size() * static_cast<std::size_t>(page_size_), tokens.size(), " tokens for ",
               pages.size(), " pages");
  NodeId at = kRoot;
  for (std::size_t index = 0; index < pages.size(); ++index) {
    Page page = pages[index];
    Origin origin = pool_.origin(page);
    VORTEX_CHECK(at == kRoot || node(at).origin == kDense || node(at).origin == origin, "origin ", origin,
                 " below origin ", node(at).origin);
    auto edge = tokens.subspan(index * static_cast<std::size_t>(page_size_), static_cast<std::size_t>(page_size_));
    NodeId next = child(at, origin, edge);
    if (next >= 0) {
      if (origin != kDense && node(next).page != page) break;  // the same tokens, but other KV
      at = next;
      continue;
    }
    std::uint64_t key = key_of(at, origin, edge);
    if (index_.contains(key) || holders_.contains(page)) break;  // a colliding hash, or a page that stands elsewhere
    if (unused_.empty()) {
      next = static_cast<NodeId>(nodes_.size());
      nodes_.emplace_back();
    } else {
      next = unused_.back();
      unused_.pop_back();
    }
    update(at, [](Node& parent) { ++parent.children; });
    update(next, [&](Node& fresh) {
      fresh.parent = at;
      fresh.page = page;
      fresh.origin = origin;
      fresh.key = key;
      fresh.last_use = 0;
      fresh.tokens.assign(edge.begin(), edge.end());
    });
    index_.emplace(key, next);
    holders_.emplace(page, next);
    pool_.share(page);
    ++pages_;
    at = next;
  }
  touch(at);
  return at;
}

void PrefixTree::lock(NodeId id) {
  for (; id != kRoot; id = node(id).parent) update(id, [](Node& it) { ++it.locks; });
}

void PrefixTree::unlock(NodeId id) {
  for (; id != kRoot; id = node(id).parent) {
    VORTEX_CHECK(node(id).locks > 0, "node ", id, " is not locked");
    update(id, [](Node& it) { --it.locks; });
  }
}

std::int64_t PrefixTree::evict(std::int64_t pages) {
  std::int64_t before = pool_.free_count();
  while (pool_.free_count() - before < pages && !leaves_.empty()) {
    NodeId id = leaves_.begin()->second;
    Page page = node(id).page;
    NodeId parent = node(id).parent;
    index_.erase(node(id).key);
    holders_.erase(page);
    update(id, [](Node& it) { it.page = -1; });
    unused_.push_back(id);
    --pages_;
    update(parent, [](Node& it) { --it.children; });
    pool_.free(page);
  }
  return pool_.free_count() - before;
}

Origin PrefixTree::origin_of(NodeId id) const { return id == kRoot ? kDense : node(id).origin; }

PrefixTree::NodeId PrefixTree::node_of(Page page) const {
  auto found = holders_.find(page);
  return found == holders_.end() ? kRoot : found->second;
}

void PrefixTree::check_integrity(std::span<const NodeId> locked, std::vector<std::int32_t>& counts) const {
  std::vector<std::int32_t> children(nodes_.size(), 0), locks(nodes_.size(), 0);
  for (NodeId id : locked)
    for (; id != kRoot; id = node(id).parent) {
      VORTEX_CHECK(node(id).page >= 0, "node ", id, " is locked and unused");
      ++locks[static_cast<std::size_t>(id)];
    }
  std::int64_t used = 0, evictables = 0, reachable = 0;
  for (std::size_t index = 1; index < nodes_.size(); ++index) {
    const Node& it = nodes_[index];
    auto id = static_cast<NodeId>(index);
    if (it.page < 0) continue;
    ++used;
    reachable += it.locks == 0;
    ++children[static_cast<std::size_t>(it.parent)];
    ++counts[static_cast<std::size_t>(it.page)];
    const Node& parent = node(it.parent);
    VORTEX_CHECK(it.parent == kRoot || parent.page >= 0, "node ", id, " hangs below the unused node ", it.parent);
    VORTEX_CHECK(it.parent == kRoot || parent.origin == kDense || parent.origin == it.origin, "node ", id,
                 " of origin ", it.origin, " below origin ", parent.origin);
    VORTEX_CHECK(pool_.origin(it.page) == it.origin, "page ", it.page, " changed its origin in the tree");
    VORTEX_CHECK(child(it.parent, it.origin, it.tokens) == id, "node ", id, " is not found by its tokens");
    VORTEX_CHECK(node_of(it.page) == id, "page ", it.page, " is not found by its number");
    if (evictable(it)) {
      ++evictables;
      VORTEX_CHECK(leaves_.contains({it.last_use, id}), "the leaf ", id, " cannot be evicted");
    }
  }
  for (std::size_t index = 0; index < nodes_.size(); ++index) {
    if (index != 0 && nodes_[index].page < 0) continue;
    VORTEX_CHECK(nodes_[index].children == children[index], "node ", index, " counts ", nodes_[index].children,
                 " children and has ", children[index]);
    VORTEX_CHECK(nodes_[index].locks == locks[index], "node ", index, " counts ", nodes_[index].locks,
                 " locks and has ", locks[index]);
  }
  VORTEX_CHECK(used == pages_ && reachable == unlocked_ && used == static_cast<std::int64_t>(index_.size()) &&
                   used == static_cast<std::int64_t>(holders_.size()) &&
                   evictables == static_cast<std::int64_t>(leaves_.size()) &&
                   nodes_.size() == 1 + static_cast<std::size_t>(used) + unused_.size(),
               used, " nodes, ", pages_, " counted, ", evictables, " leaves, ", leaves_.size(), " listed, ", reachable,
               " unlocked, ", unlocked_, " counted");
}

}  // namespace vortex::kv
