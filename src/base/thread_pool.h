// Our own thread pool: a fixed set of workers that run the tasks of one parallel loop at a time. The caller works too,
// so a pool of one thread starts no threads at all. Refuses nested loops.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace vortex {

class ThreadPool {
 public:
  // `threads` in all, the caller included; 0 means VORTEX_THREADS, and when that is 0 one for each core this process
  // may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Runs task(index, worker) for every index in [0, count), each once, workers taking the next index as they finish.
  // worker is in [0, threads()). Returns when all are done; the first exception is rethrown. What a task computes must
  // not depend on `worker`, so that results do not depend on the number of threads.
  template <class Task>
  void for_each(std::int64_t count, Task&& task) {
    run(
        count,
        [](void* context, std::int64_t index, int worker) {
          (*static_cast<std::remove_reference_t<Task>*>(context))(index, worker);
        },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  using Function = void (*)(void* context, std::int64_t index, int worker);
  void run(std::int64_t count, Function function, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vortex
