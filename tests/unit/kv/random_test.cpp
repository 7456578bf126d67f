// 100,000 random operations over pool, tables and tree, against a shadow of what each page holds.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <unordered_map>

#include "base/text.h"
#include "kv/integrity.h"

namespace vortex::kv {
namespace {

constexpr std::int64_t kPageSize = 4, kPages = 64;

// The shadow of one KV entry: a hash of the whole history that made it, its modes included.
using Entry = std::uint64_t;

struct Sequence {
  Origin flow = kDense;
  PageTable table{kPageSize};
  std::vector<std::int32_t> tokens;
  std::vector<Entry> entries;
  PrefixTree::NodeId locked = PrefixTree::kRoot;
};

class Machine {
 public:
  explicit Machine(std::uint64_t seed) : random_(seed) {
    pool_.on_free([this](Page page) { memory_.erase(page); });
  }

  void operation() {
    switch (below(8)) {
      case 0:
        start();
        break;
      case 1:
      case 2:
      case 3:
        append();
        break;
      case 4:
        fork();
        break;
      case 5:
        remember();
        break;
      case 6:
        finish();
        break;
      default:
        if (below(4) == 0)
          evict();
        else if (below(4) == 0)
          truncate();
    }
  }

  void check() {
    std::vector<const PageTable*> tables;
    std::vector<PrefixTree::NodeId> locked;
    for (auto& [id, it] : sequences_) {
      tables.push_back(&it.table);
      if (it.locked != PrefixTree::kRoot) locked.push_back(it.locked);
    }
    check_integrity(pool_, tables, &tree_, locked);
  }

  void check_contents() {
    for (auto& [id, it] : sequences_)
      for (std::size_t token = 0; token < it.entries.size(); ++token) {
        Page page = it.table.pages()[token / kPageSize];
        ASSERT_EQ(memory_.at(page)[token % kPageSize], it.entries[token]) << "sequence " << id << " token " << token;
      }
  }

  void finish_all() {
    while (!sequences_.empty()) finish();
    EXPECT_EQ(pool_.free_count() + tree_.pages(), kPages);
    tree_.evict(kPages);
    EXPECT_EQ(tree_.pages(), 0);
    EXPECT_EQ(pool_.free_count(), kPages);
    EXPECT_TRUE(memory_.empty());
    check();
  }

  std::map<std::string, int> seen;

 private:
  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(end));
  }

  Sequence* any() {
    if (sequences_.empty()) return nullptr;
    auto it = sequences_.begin();
    std::advance(it, below(static_cast<std::int64_t>(sequences_.size())));
    return &it->second;
  }

  bool make_room(std::int64_t pages) {
    if (!pool_.can_allocate(pages)) seen["evicted"] += static_cast<int>(tree_.evict(pages - pool_.free_count()));
    return pool_.can_allocate(pages);
  }

  static Entry entry_of(const Sequence& it, std::int32_t token, Origin made_by) {
    Hash hash;
    hash.add(it.entries.empty() ? 0 : it.entries.back());
    hash.add(static_cast<std::uint64_t>(token) << 8 | static_cast<std::uint64_t>(made_by));
    return hash.value();
  }

  void write(Sequence& it, std::int64_t count, bool sparse) {
    Origin made_by = sparse ? it.flow : kDense;
    if (!make_room(it.table.pages_needed(pool_, count))) {
      ++seen["full"];
      return;
    }
    PageTable::Copy copy = it.table.append(pool_, count, made_by);
    if (copy.from >= 0) {
      memory_[copy.to] = memory_.at(copy.from);
      ++seen["copied"];
    }
    for (std::int64_t i = 0; i < count; ++i) {
      auto token = static_cast<std::int32_t>(below(2));
      Entry entry = entry_of(it, token, made_by);
      std::size_t at = it.tokens.size();
      it.tokens.push_back(token);
      it.entries.push_back(entry);
      Page page = it.table.pages()[at / kPageSize];
      ASSERT_EQ(pool_.references(page), 1) << "a shared page is written";
      memory_[page].resize(kPageSize);
      memory_[page][at % kPageSize] = entry;
    }
  }

  void start() {
    if (sequences_.size() >= 12) return;
    Sequence it;
    it.flow = static_cast<Origin>(below(3));
    std::vector<std::int32_t> prompt(static_cast<std::size_t>(below(24)));
    for (auto& token : prompt) token = static_cast<std::int32_t>(below(2));
    std::vector<Page> pages;
    PrefixTree::NodeId node = tree_.match(prompt, it.flow, pages);
    tree_.lock(node);
    it.locked = node;
    it.table.adopt(pool_, pages, tree_.origin_of(node));
    Sequence fresh;  // what the prefix would hold if it were prefilled
    for (std::size_t i = 0; i < pages.size() * kPageSize; ++i) {
      Page page = pages[i / kPageSize];
      Origin origin = pool_.origin(page);
      ASSERT_TRUE(origin == kDense || origin == it.flow) << "a page of flow " << origin << " for flow " << it.flow;
      Entry entry = memory_.at(page)[i % kPageSize];
      fresh.entries.push_back(entry_of(fresh, prompt[i], kDense));
      if (origin == kDense) {
        ASSERT_EQ(entry, fresh.entries.back()) << "a dense page holds KV that prefill does not make";
      } else {
        ++seen["sparse hits"];
      }
      it.tokens.push_back(prompt[i]);
      it.entries.push_back(entry);
    }
    if (!pages.empty()) ++seen["hits"];
    sequences_.emplace(next_++, std::move(it));
  }

  void append() {
    if (Sequence* it = any(); it != nullptr && it->tokens.size() < 60) write(*it, 1 + below(16), below(2) == 0);
  }

  void fork() {
    Sequence* it = any();
    if (it == nullptr || sequences_.size() >= 12) return;
    Sequence copy = *it;
    copy.table = it->table.fork(pool_);
    tree_.lock(copy.locked);
    sequences_.emplace(next_++, std::move(copy));
    ++seen["forks"];
  }

  void remember() {
    Sequence* it = any();
    if (it == nullptr) return;
    PrefixTree::NodeId node =
        tree_.insert(it->tokens, it->table.pages().first(static_cast<std::size_t>(it->table.full_pages())));
    tree_.lock(node);
    tree_.unlock(it->locked);
    it->locked = node;
  }

  void truncate() {  // what is kept may be in the tree, so whole pages only
    Sequence* it = any();
    if (it == nullptr) return;
    std::int64_t keep = below(it->table.full_pages() + 1) * kPageSize;
    it->table.truncate(pool_, keep);
    it->tokens.resize(static_cast<std::size_t>(keep));
    it->entries.resize(static_cast<std::size_t>(keep));
  }

  void finish() {
    if (sequences_.empty()) return;
    auto it = sequences_.begin();
    std::advance(it, below(static_cast<std::int64_t>(sequences_.size())));
    it->second.table.release(pool_);
    tree_.unlock(it->second.locked);
    sequences_.erase(it);
  }

  void evict() { seen["evicted"] += static_cast<int>(tree_.evict(1 + below(8))); }

  std::mt19937_64 random_;
  PagePool pool_{kPages};
  PrefixTree tree_{pool_, kPageSize};
  std::map<int, Sequence> sequences_;
  int next_ = 0;
  std::unordered_map<Page, std::vector<Entry>> memory_;
};

TEST(Kv, HundredThousandRandomOperations) {
  const char* given = std::getenv("VORTEX_TEST_SEED");
  std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "VORTEX_TEST_SEED=" << seed << "\n";
  RecordProperty("seed", std::to_string(seed));
  Machine machine(seed);
  for (int operation = 0; operation < 100'000; ++operation) {
    machine.operation();
    if (HasFatalFailure()) FAIL() << "operation " << operation;
    machine.check();
    if (operation % 64 == 0) machine.check_contents();
    if (HasFatalFailure()) FAIL() << "operation " << operation;
  }
  machine.check_contents();
  machine.finish_all();
  for (const char* what : {"hits", "sparse hits", "forks", "copied", "evicted", "full"}) {
    EXPECT_GT(machine.seen[what], 100) << what << " hardly happened";
  }
}

}  // namespace
}  // namespace vortex::kv
