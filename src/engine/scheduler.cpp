#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "kv/integrity.h"

namespace vortex::engine {

// ---- The policy ----

// Sequences that run go first, in order of arrival: a token each for those that decode, what is left of the chunk for
// those that prefill. Then come those that wait, as long as there is a place in the batch, chunk and pages.
const std::vector<Scheduler::Work>& Scheduler::schedule() {
  work_.clear();
  std::int64_t chunk = runner_.config().chunk_tokens;
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& it = *running_[i];
    if (it.prefilling() || (!it.is_full(runner_.config().max_context) && make_room(it))) chunk -= work_on(it, chunk);
  }
  while (chunk > 0 && !waiting_.empty() && static_cast<std::int64_t>(running_.size()) < runner_.config().max_batch &&
         admit(*waiting_.front())) {
    std::unique_ptr<Sequence> it = std::move(waiting_.front());
    waiting_.pop_front();
    if (it->prefilling()) chunk -= work_on(*it, chunk);
    auto later = std::ranges::find_if(running_, [&](const auto& other) { return other->id > it->id; });
    running_.insert(later, std::move(it));
  }
  VORTEX_CHECK(!work_.empty() || empty() || !running_.empty(), waiting_.size(), " sequences wait for ever");
  return work_;
}

std::int64_t Scheduler::work_on(Sequence& it, std::int64_t chunk) {
  bool prefilling = it.prefilling();
  std::int64_t tokens = prefilling ? std::min(chunk, it.prompt() - it.stored) : 1;
  if (tokens > 0) work_.push_back({&it, tokens});
  return prefilling ? tokens : 0;
}

// A page for the next token; those that came later give theirs back for it, the last one first.
bool Scheduler::make_room(Sequence& it) {
  kv::Origin origin = runner_.origin_of(it.request.flow);
  while (!reserve(it.table.pages_needed(runner_.pool(), 1))) {
    bool itself = running_.back().get() == &it;
    preempt();
    if (itself) return false;
  }
  counts_.copied_pages += runner_.append(it.table, 1, origin);
  return true;
}

// Free pages, or cached ones that nobody uses: those are dropped when they suffice.
bool Scheduler::reserve(std::int64_t pages) {
  std::int64_t missing = pages - runner_.pool().free_count();
  if (missing > 0 && tree_ && tree_->unlocked() >= missing) counts_.evicted_pages += tree_->evict(missing);
  return runner_.pool().can_allocate(pages);
}

// What it carries from step to step, and pages for the whole prompt, those of a known prefix shared; or for all that
// was saved. One page more while others run, so that they do not run out at once.
bool Scheduler::admit(Sequence& it) {
  const auto most = static_cast<std::int64_t>(it.tokens.capacity());
  if (!running_.empty() && carried_bytes() + runner_.carried_bytes(it.request.flow, most) > runner_.room_for_carried())
    return false;
  hits_.clear();
  kv::PrefixTree::NodeId node = kv::PrefixTree::kRoot;
  if (tree_ && !it.saved.data)  // the last token of the prompt is always computed: its logits are wanted
    node = tree_->match(std::span(it.request.prompt).first(it.request.prompt.size() - 1),
                        runner_.origin_of(it.request.flow), hits_);
  if (tree_) tree_->lock(node);
  auto hits = static_cast<std::int64_t>(hits_.size());
  if (!reserve(runner_.pages_of(it.room()) - hits + (running_.empty() ? 0 : 1))) {
    if (tree_) tree_->unlock(node);
    return false;
  }
  try {
    runner_.reserve(it.request.flow, it.memory, most);
    if (it.saved.data) {
      runner_.restore(it.saved, it.table, it.room());
      it.saved = {};
      ++counts_.restores;
    } else {
      it.table.adopt(runner_.pool(), hits_, tree_ ? tree_->origin_of(node) : kv::kDense);
      runner_.append(it.table, it.room() - it.table.tokens(), kv::kDense);
      it.stored = hits * runner_.config().page_size;
      counts_.prefix_hit_tokens += it.stored;
    }
  } catch (...) {  // it goes on waiting
    it.table.release(runner_.pool());
    if (tree_) tree_->unlock(node);
    throw;
  }
  it.locked = node;
  return true;
}

// The sequence that came last leaves the batch with its KV, never to be prefilled again.
void Scheduler::preempt() {
  Sequence& last = *running_.back();  // stays where it is, and as it is, when its KV or its state finds no memory
  SavedKv saved;
  if (last.stored > 0) saved = runner_.save(last.table, last.stored);
  const auto place = waiting_.insert(place_of(last.id), nullptr);
  try {
    last.memory.leave_device();
  } catch (...) {
    waiting_.erase(place);
    throw;
  }
  last.saved = std::move(saved);
  let_go(last);
  *place = std::move(running_.back());
  running_.pop_back();
  ++counts_.preemptions;
}

// ---- The sequences ----

Scheduler::Scheduler(Runner& runner) : runner_(runner) {}

Scheduler::~Scheduler() = default;

void Scheduler::start() {
  if (runner_.config().prefix_cache)
    tree_ = std::make_unique<kv::PrefixTree>(runner_.pool(), runner_.config().page_size);
  auto batch = static_cast<std::size_t>(runner_.config().max_batch);
  running_.reserve(batch + 1);  // a fork comes before another leaves
  work_.reserve(batch);
}

// Where a sequence of this id waits.
std::deque<std::unique_ptr<Sequence>>::iterator Scheduler::place_of(std::int64_t id) {
  return std::ranges::find_if(waiting_, [&](const auto& other) { return other->id > id; });
}

void Scheduler::add(std::unique_ptr<Sequence> it) { waiting_.insert(place_of(it->id), std::move(it)); }

std::unique_ptr<Sequence> Scheduler::fork(const Sequence& from) {
  auto it = std::make_unique<Sequence>(from);
  it->tokens.reserve(from.tokens.capacity());
  if (from.table.tokens() == 0) return it;  // waits; a preempted one shares what is saved
  it->table = from.table.fork(runner_.pool(), static_cast<std::int64_t>(from.tokens.capacity()));
  if (tree_) tree_->lock(it->locked);
  return it;
}

void Scheduler::add_running(std::unique_ptr<Sequence> it) {
  running_.push_back(std::move(it));  // it has the highest id
  if (static_cast<std::int64_t>(running_.size()) <= runner_.config().max_batch &&
      carried_bytes() <= runner_.room_for_carried())
    return;
  try {
    preempt();
  } catch (...) {
    drop(*running_.back());
    throw;
  }
}

std::int64_t Scheduler::carried_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& it : running_) bytes += it->memory.bytes();
  return bytes;
}

Sequence* Scheduler::find(std::int64_t id) {
  for (auto& it : running_)
    if (it->id == id) return it.get();
  for (auto& it : waiting_)
    if (it->id == id) return it.get();
  return nullptr;
}

void Scheduler::undo() {
  for (const Work& work : work_) work.sequence->table.truncate(runner_.pool(), work.sequence->room());
  work_.clear();
}

void Scheduler::remember(Sequence& it) {
  if (!tree_) return;
  auto full = static_cast<std::size_t>(it.stored / runner_.config().page_size);
  kv::PrefixTree::NodeId node = tree_->insert(it.tokens, it.table.pages().first(full));
  tree_->lock(node);
  tree_->unlock(it.locked);
  it.locked = node;
}

void Scheduler::let_go(Sequence& it) {
  it.table.release(runner_.pool());
  if (tree_) tree_->unlock(it.locked);
  it.locked = kv::PrefixTree::kRoot;
}

void Scheduler::finish(Sequence& it) {
  if (it.table.tokens() > 0) remember(it);  // one that was preempted after its last step has no pages
  drop(it);
}

void Scheduler::drop(Sequence& it) {
  let_go(it);
  auto is_it = [&](const auto& other) { return other.get() == &it; };
  if (auto found = std::ranges::find_if(running_, is_it); found != running_.end())
    running_.erase(found);
  else if (auto other = std::ranges::find_if(waiting_, is_it); other != waiting_.end())
    waiting_.erase(other);
}

void Scheduler::fill(Statistics& out) const {
  out.prefix_hit_tokens = counts_.prefix_hit_tokens;
  out.preemptions = counts_.preemptions;
  out.restores = counts_.restores;
  out.evicted_pages = counts_.evicted_pages;
  out.copied_pages = counts_.copied_pages;
  out.running = static_cast<std::int64_t>(running_.size());
  out.cached_pages = tree_ ? tree_->pages() : 0;
  out.carried_bytes = carried_bytes();
  for (const auto& it : waiting_) {
    ++(it->saved.data ? out.preempted : out.waiting);
    out.host_bytes += it->saved.bytes() + it->memory.bytes();
  }
}

void Scheduler::check_integrity() const {
  std::vector<const kv::PageTable*> tables;
  std::vector<kv::PrefixTree::NodeId> locked;
  std::int64_t before = -1;
  for (const auto& it : running_) {
    VORTEX_CHECK(it->id > before, "sequence ", it->id, " runs after ", before);
    VORTEX_CHECK(!it->saved.data && it->table.tokens() == it->room(), "sequence ", it->id, " has pages for ",
                 it->table.tokens(), " of ", it->room(), " tokens");
    before = it->id;
    tables.push_back(&it->table);
    if (it->locked != kv::PrefixTree::kRoot) locked.push_back(it->locked);
  }
  before = -1;
  for (const auto& it : waiting_) {
    VORTEX_CHECK(it->id > before, "sequence ", it->id, " waits after ", before);
    VORTEX_CHECK(it->table.tokens() == 0 && it->locked == kv::PrefixTree::kRoot && it->stored == it->saved.tokens,
                 "sequence ", it->id, " waits and holds pages");
    before = it->id;
  }
  kv::check_integrity(runner_.pool(), tables, tree_.get(), locked);
}

}  // namespace vortex::engine
