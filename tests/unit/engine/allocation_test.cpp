// A steady decode step takes no memory from the heap: this program counts every call of operator new.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>

#include "engine/workbench.h"
#include "tiny.h"

namespace {
std::atomic<std::int64_t> allocations{0};
std::atomic<std::size_t> refused_from{SIZE_MAX};  // bytes that operator new does not give
std::atomic<std::int64_t> refused_call{0};        // the call that it does not serve, counted down; 0: it serves all

[[maybe_unused]] void* counted(std::size_t bytes, std::size_t alignment = 0) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (refused_call.load(std::memory_order_relaxed) > 0 && --refused_call == 0) throw std::bad_alloc();
  if (bytes >= refused_from.load(std::memory_order_relaxed)) throw std::bad_alloc();
  void* memory = alignment > 0 ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                               : std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

#ifndef __SANITIZE_ADDRESS__  // which has an operator new of its own
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted(bytes); }
[[gnu::noinline]] void* operator new[](std::size_t bytes) { return counted(bytes); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
#endif

namespace vortex::engine {
namespace {

TEST(Allocation, ASteadyStepTakesNoMemory) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer brings its own operator new, which this test replaces";
#endif
  EngineConfig config = tiny_config();
  config.threads = 2;
  Engine engine(std::make_shared<TinyModel>(), config);
  int flow = engine.load_flow(centroid_flow(4));
  for (std::uint64_t i = 0; i < 6; ++i) {
    Request request;
    request.prompt = random_tokens(60, i);
    request.max_new_tokens = 200;
    request.flow = i % 2 == 0 ? flow : kFullAttention;
    if (i % 3 == 0) request.sampling = {.temperature = 1.0f, .top_k = 10, .top_p = 0.9f, .seed = i};
    engine.submit(request);
  }
  for (int step = 0; step < 120; ++step) engine.step();  // buffers have grown to what lengths need
  std::int64_t before = allocations.load(), steps = 0;
  for (; steps < 60; ++steps) ASSERT_EQ(engine.step().size(), 6u);
  EXPECT_LE(allocations.load() - before, 6) << "in " << steps << " steps; a few buffers may double as contexts grow";
}

TEST(Allocation, AStepWithoutMemoryLeavesTheEngineWhole) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer brings its own operator new, which this test replaces";
#endif
  EngineConfig config = tiny_config();
  config.pages = 30;
  Engine engine(std::make_shared<TinyModel>(), config);
  ir::Program program = centroid_flow(4);
  int flow = engine.load_flow(program);
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 3; ++i) {
    Request request;
    request.prompt = random_tokens(30, i);
    request.max_new_tokens = 50;
    request.flow = flow;
    requests.push_back(request);
    engine.submit(request);
  }
  Answers answers;
  int failures = 0;
  for (int step = 0; !engine.idle(); ++step) {
    if (step > 5) refused_from = 4096;  // what a preemption saves is larger
    try {
      take(answers, engine.step());
    } catch (const std::bad_alloc&) {
      refused_from = SIZE_MAX;
      ++failures;
      engine.check_integrity();
      take(answers, engine.step());
    }
    refused_from = SIZE_MAX;
    engine.check_integrity();
  }
  EXPECT_GT(failures, 0);
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(answers[static_cast<std::int64_t>(i)], alone(requests[i], &program)) << "request " << i;
}

// Every call of operator new fails in its turn, until the action finds all it wants: no page is lost.
void expect_whole_without_memory(const char* what, Workbench& bench, const std::function<void()>& action) {
  for (std::int64_t call = 1;; ++call) {
    ASSERT_LT(call, 10000) << what;
    refused_call = call;
    try {
      action();
      const bool all_served = refused_call.exchange(0) > 0;
      ASSERT_TRUE(all_served) << what << " swallowed the failure of call " << call;
      EXPECT_GT(call, 1) << what << " takes no memory: nothing was tested";
      bench.check_integrity();
      return;
    } catch (const std::bad_alloc&) {
    }
    ASSERT_NO_THROW(bench.check_integrity()) << what << ", call " << call;
  }
}

TEST(Allocation, AWorkbenchWithoutMemoryKeepsItsPages) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer brings its own operator new, which this test replaces";
#endif
  EngineConfig config = tiny_config();
  config.threads = 1;
  config.pages = 200;
  Workbench bench(std::make_shared<TinyModel>(), config);
  const int flow = bench.load_flow(centroid_flow(4));
  const std::vector<std::int32_t> prompt = random_tokens(50, 1), next = {3, 4, 5};
  std::vector<Workbench::Sequence> sequences;
  sequences.reserve(3);
  bench.fill(4, 0);  // takes the pool
  expect_whole_without_memory("prefill", bench, [&] { sequences.push_back(bench.prefill(prompt)); });
  expect_whole_without_memory("fill", bench, [&] { sequences.push_back(bench.fill(40, 7)); });
  expect_whole_without_memory("fork", bench, [&] { sequences.push_back(bench.fork(sequences[0], flow)); });
  expect_whole_without_memory("decode", bench, [&] { bench.decode(sequences, next); });

  // What failed on the way has left no trace in what comes out.
  Workbench calm(std::make_shared<TinyModel>(), config);
  const int same_flow = calm.load_flow(centroid_flow(4));
  std::vector<Workbench::Sequence> others = {calm.prefill(prompt), calm.fill(40, 7)};
  others.push_back(calm.fork(others[0], same_flow));
  calm.decode(others, next);
  EXPECT_TRUE(std::ranges::equal(bench.decode(sequences, next), calm.decode(others, next)));
}

// A request that finds no memory for what it carries goes on waiting, with no page and no lock of the prefix it shares.
TEST(Allocation, ARequestWithoutMemoryWaits) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer brings its own operator new, which this test replaces";
#endif
  Engine engine(std::make_shared<TinyModel>(), tiny_config());
  ir::Program program = stateful_flow(4);
  Request request;
  request.prompt = random_tokens(200, 1);
  request.max_new_tokens = 4;
  request.flow = engine.load_flow(program);
  engine.submit(request);
  run_all(engine);  // its prompt is known from here on
  const std::int64_t again = engine.submit(request), other = engine.submit(request);
  int failures = 0;
  for (std::size_t bytes : {256, 512, 1024}) {  // state is larger than anything else
    refused_from = bytes;
    try {
      engine.step();
    } catch (const std::bad_alloc&) {
      ++failures;
    }
    refused_from = SIZE_MAX;
    ASSERT_NO_THROW(engine.check_integrity()) << bytes;
  }
  EXPECT_GT(failures, 0);
  Answers answers = run_all(engine);
  EXPECT_EQ(answers[again], alone(request, &program));
  EXPECT_EQ(answers[other], answers[again]);
}

}  // namespace
}  // namespace vortex::engine
