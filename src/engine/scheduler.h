// Who runs in a step: first come, first served. Keeps the sequences, gives them pages, and when pages run out takes
// them back from the one that came last, whose KV goes to host memory until there is room again. Runs nothing itself.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/sequence.h"

namespace vortex::engine {

class Scheduler {
 public:
  // A sequence and how many of its tokens the step works on.
  struct Work {
    Sequence* sequence;
    std::int64_t tokens;
  };

  explicit Scheduler(Runner&);
  ~Scheduler();
  void start();  // once the runner has started

  void add(std::unique_ptr<Sequence>);              // it waits its turn
  void add_running(std::unique_ptr<Sequence>);      // a fork that holds pages; it waits without them in a full batch
  std::unique_ptr<Sequence> fork(const Sequence&);  // shares the pages of a sequence that decodes
  Sequence* find(std::int64_t id);                  // null when there is none
  const std::vector<Work>& schedule();              // what the next step works on
  const std::vector<Work>& work() const { return work_; }
  void undo();               // after schedule() or the step failed: pages as before, what runs and waits as it is now
  void remember(Sequence&);  // its full pages go into the prefix tree
  void finish(Sequence&);    // remembers, gives back its pages and forgets it
  void drop(Sequence&);      // the same for one that ends early
  bool empty() const { return running_.empty() && waiting_.empty(); }

  void fill(Statistics&) const;
  void check_integrity() const;

 private:
  bool reserve(std::int64_t pages);
  std::int64_t carried_bytes() const;  // by the sequences that run
  bool make_room(Sequence&);
  bool admit(Sequence&);
  void preempt();
  std::deque<std::unique_ptr<Sequence>>::iterator place_of(std::int64_t id);
  void let_go(Sequence&);
  std::int64_t work_on(Sequence&, std::int64_t chunk);

  Runner& runner_;
  std::unique_ptr<kv::PrefixTree> tree_;            // null without prefix_cache
  std::deque<std::unique_ptr<Sequence>> waiting_;   // by id; preempted ones among them
  std::vector<std::unique_ptr<Sequence>> running_;  // by id
  std::vector<Work> work_;
  std::vector<kv::Page> hits_;
  Statistics counts_;
};

}  // namespace vortex::engine
