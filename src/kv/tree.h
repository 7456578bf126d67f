// The prefix cache: a radix tree whose every edge is one full page of tokens together with its origin. It holds one
// reference to each of its pages. A path is dense pages first, then pages of at most one other origin: a full-attention
// request walks only dense edges, a request of a flow walks dense edges and then its flow's own.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kv/pool.h"

namespace vortex::kv {

class PrefixTree {
 public:
  using NodeId = std::int32_t;
  static constexpr NodeId kRoot = 0;

  PrefixTree(PagePool&, std::int64_t page_size);

  // The longest known path for `tokens` (whole pages only) that a sequence of `origin` may use; among equally long ones
  // the one with more dense pages. Fills `pages` and returns its last node, kRoot when there is none.
  NodeId match(std::span<const std::int32_t> tokens, Origin origin, std::vector<Page>& pages);
  // Remembers the full pages of a sequence: page i holds tokens [i · page_size, (i + 1) · page_size). What is known
  // stays as it is. Returns the last node of the path, which may be shorter: other pages are not added below pages that
  // a different sequence of the same flow made.
  NodeId insert(std::span<const std::int32_t> tokens, std::span<const Page> pages);

  // A locked node and its ancestors are not evicted. Locks count and pair with unlocks.
  void lock(NodeId);
  void unlock(NodeId);

  // Drops least recently used unlocked leaves until `pages` pages went back to the pool or nothing is left to drop;
  // returns how many pages went back.
  std::int64_t evict(std::int64_t pages);

  std::int64_t pages() const { return pages_; }        // that the tree holds
  std::int64_t unlocked() const { return unlocked_; }  // of them, pages that eviction can reach
  Origin origin_of(NodeId) const;                      // kDense for the root
  NodeId node_of(Page) const;                          // that holds this very page; kRoot when none does

  // Adds the tree's references to `counts` [pages of the pool] and checks every link; `locked` lists the nodes that are
  // locked from outside, one entry a lock.
  void check_integrity(std::span<const NodeId> locked, std::vector<std::int32_t>& counts) const;

 private:
  struct Node {
    NodeId parent = -1;
    std::int32_t children = 0;
    std::int32_t locks = 0;  // locks on this node or below
    Page page = -1;          // -1: the node is unused (or the root)
    Origin origin = kDense;
    std::uint64_t key = 0;
    std::uint64_t last_use = 0;
    std::vector<std::int32_t> tokens;  // [page_size]
  };

  std::uint64_t key_of(NodeId parent, Origin, std::span<const std::int32_t> tokens) const;
  NodeId child(NodeId parent, Origin, std::span<const std::int32_t> tokens) const;  // -1 when there is none
  bool evictable(const Node& node) const { return node.page >= 0 && node.children == 0 && node.locks == 0; }
  void touch(NodeId);
  Node& node(NodeId id) { return nodes_[static_cast<std::size_t>(id)]; }
  const Node& node(NodeId id) const { return nodes_[static_cast<std::size_t>(id)]; }
  bool unlocked(const Node& node) const { return node.page >= 0 && node.locks == 0; }
  // Changes a node, keeping the set of evictable leaves and the count of unlocked nodes right.
  template <class Change>
  void update(NodeId, Change&&);

  PagePool& pool_;
  std::int64_t page_size_;
  std::int64_t pages_ = 0, unlocked_ = 0;
  std::uint64_t clock_ = 0;
  std::vector<Node> nodes_;
  std::vector<NodeId> unused_;
  std::unordered_map<std::uint64_t, NodeId> index_;    // hash of (parent, origin, tokens); verified on use
  std::unordered_map<Page, NodeId> holders_;           // page → the node that holds it
  std::set<std::pair<std::uint64_t, NodeId>> leaves_;  // evictable ones, by last use
};

}  // namespace vortex::kv
