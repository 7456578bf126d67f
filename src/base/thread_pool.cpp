#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/threads.h"

namespace vortex {

namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb");
#endif
}

// How long a thread looks for what it waits for before it sleeps. A decode step runs hundreds of loops of some
// microseconds, and waking a sleeper takes about fifty. Between looks a waiting thread lets others have the core. Where
// there are more threads than cores it does not wait awake at all.
constexpr std::chrono::microseconds kPatience{200};

// Looks for `there` until it is, or patience ends; returns whether it was.
template <class Condition>
bool spin_until(std::chrono::microseconds patience, Condition&& there) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (there()) return true;
      relax();
    }
    if (std::chrono::steady_clock::now() > end) return there();
    sched_yield();
  }
}

// The state of the gate: the loop's generation, whether it may still be joined, and how many workers are inside.
constexpr std::uint64_t kOpen = 1u << 16, kInside = kOpen - 1, kGeneration = kOpen << 1;

}  // namespace

// A worker works for a loop only after it has joined it through the gate while that was open. The caller closes the
// gate when no task is left and waits for those inside, so a worker that slept or was not scheduled delays nobody.
struct ThreadPool::State {
  std::vector<std::thread> workers;
  int cores = 1;
  std::chrono::microseconds patience{0};
  alignas(64) std::atomic<std::uint64_t> gate{0};
  alignas(64) std::atomic<std::int64_t> next{0};
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> stopping{false}, caller_sleeps{false}, running{false};
  std::mutex mutex;
  std::condition_variable wake, done;

  // Of the loop that the gate stands for; written while the gate is closed and nobody is inside.
  Function function = nullptr;
  void* context = nullptr;
  std::int64_t count = 0;
  std::exception_ptr failure;

  void work(int worker) {
    for (std::int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < count;
         i = next.fetch_add(1, std::memory_order_relaxed)) {
      try {
        function(context, i, worker);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
  }

  void stop() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
    workers.clear();
  }

  // Joins the open loop unless it is the generation last `seen`.
  bool join(std::uint64_t& seen) {
    std::uint64_t now = gate.load();
    while ((now & kOpen) && now / kGeneration != seen)
      if (gate.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_relaxed)) {
        seen = now / kGeneration;
        return true;
      }
    return false;
  }

  void leave() {
    const std::uint64_t after = gate.fetch_sub(1) - 1;
    if ((after & (kOpen | kInside)) == 0 && caller_sleeps) {
      std::lock_guard lock(mutex);
      done.notify_one();
    }
  }

  void serve(int worker) {
    std::uint64_t seen = 0;
    auto joined_or_stopping = [&] { return join(seen) || stopping; };
    for (;;) {
      if (!spin_until(patience, joined_or_stopping)) {
        std::unique_lock lock(mutex);
        // Counted before looking again: run() opens the gate before it looks at the count.
        sleepers.fetch_add(1);
        wake.wait(lock, joined_or_stopping);
        sleepers.fetch_sub(1);
      }
      if (stopping) return;
      work(worker);
      leave();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  threads = thread_count(threads);
  state_->cores = usable_cores();
  if (threads <= state_->cores) state_->patience = kPatience;
  try {
    for (int worker = 1; worker < threads; ++worker)
      state_->workers.emplace_back([state = state_.get(), worker] { state->serve(worker); });
  } catch (const std::system_error& error) {
    const std::size_t started = state_->workers.size() + 1;
    state_->stop();
    throw MachineError("threads", concat(threads, " threads"), concat("the system gave ", started, ": ", error.what()),
                       "ask for fewer `threads`");
  } catch (...) {
    state_->stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { state_->stop(); }

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(std::int64_t count, Function function, void* context) {
  if (count <= 0) return;
  State& state = *state_;
  if (state.workers.empty() || count == 1) {
    for (std::int64_t i = 0; i < count; ++i) function(context, i, 0);
    return;
  }
  VORTEX_CHECK(!state.running.exchange(true), "a parallel loop inside a parallel loop");
  state.function = function;
  state.context = context;
  state.count = count;
  state.failure = nullptr;
  state.next.store(0, std::memory_order_relaxed);
  const std::uint64_t generation = state.gate.load(std::memory_order_relaxed) / kGeneration + 1;
  state.gate.store(generation * kGeneration + kOpen);
  // No more than have something to do and a core to do it on: a thousand woken threads would find nothing left.
  if (const int sleepers = state.sleepers.load(); sleepers > 0) {
    { std::lock_guard lock(state.mutex); }
    const std::int64_t wanted = std::min<std::int64_t>(count - 1, state.cores);
    if (sleepers <= wanted) {
      state.wake.notify_all();
    } else {
      for (std::int64_t i = 0; i < wanted; ++i) state.wake.notify_one();
    }
  }
  state.work(0);
  state.gate.fetch_and(~kOpen);
  auto empty = [&] { return (state.gate.load() & kInside) == 0; };
  if (!spin_until(state.patience, empty)) {
    std::unique_lock lock(state.mutex);
    state.caller_sleeps = true;
    state.done.wait(lock, empty);
    state.caller_sleeps = false;
  }
  std::exception_ptr failure = std::exchange(state.failure, nullptr);
  state.running = false;
  if (failure) std::rethrow_exception(failure);
}

}  // namespace vortex
