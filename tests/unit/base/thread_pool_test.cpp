// The pool: every index once, whatever the threads; failures rethrown; loops that follow each other at once and after
// pauses long enough for the workers to sleep.
#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <vortex/error.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace vortex {
namespace {

TEST(ThreadPool, RunsEveryIndexOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<int> times(static_cast<std::size_t>(count));
      std::atomic<bool> in_range{true};
      pool.for_each(count, [&](std::int64_t i, int worker) {
        ++times[static_cast<std::size_t>(i)];
        if (worker < 0 || worker >= threads) in_range = false;
      });
      for (int n : times) EXPECT_EQ(n, 1);
      EXPECT_TRUE(in_range);
    }
  }
}

// What a loop wrote is seen by the next one and by the caller, over many short loops.
TEST(ThreadPool, LoopsFollowEachOther) {
  ThreadPool pool(3);
  std::vector<std::int64_t> values(16), sums(16);
  for (std::int64_t round = 1; round <= 20000; ++round) {
    pool.for_each(16, [&](std::int64_t i, int) { values[static_cast<std::size_t>(i)] += i; });
    pool.for_each(
        16, [&](std::int64_t i, int) { sums[static_cast<std::size_t>(i)] = values[static_cast<std::size_t>(15 - i)]; });
    for (std::int64_t i = 0; i < 16; ++i) ASSERT_EQ(sums[static_cast<std::size_t>(i)], (15 - i) * round);
  }
}

TEST(ThreadPool, WakesSleepingWorkers) {
  ThreadPool pool(4);
  for (int round = 0; round < 30; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(round % 3 * 400));  // some end within the workers' patience
    std::atomic<std::int64_t> sum{0};
    pool.for_each(100, [&](std::int64_t i, int) { sum += i; });
    ASSERT_EQ(sum, 4950);
  }
}

// Far more threads than cores: those without work sleep, so that short loops cost little processor time.
TEST(ThreadPool, ManyMoreThreadsThanCores) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int kThreads = 50;
#else
  constexpr int kThreads = 1000;
#endif
  ThreadPool pool(kThreads);
  std::vector<std::int64_t> times(24);
  const std::clock_t start = std::clock();
  for (int round = 0; round < 1000; ++round)
    pool.for_each(24, [&](std::int64_t i, int) { ++times[static_cast<std::size_t>(i)]; });
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  for (std::int64_t n : times) EXPECT_EQ(n, 1000);
  EXPECT_LT(seconds, 2.0) << "1000 loops of 24 tasks";
}

// The caller itself sleeps when another thread holds the last task for long.
TEST(ThreadPool, WaitsForTheLastTask) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> done{0};
    pool.for_each(2, [&](std::int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++done;
    });
    ASSERT_EQ(done, 2);
  }
}

TEST(ThreadPool, RethrowsAndGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 100; ++round) {
    EXPECT_THROW(pool.for_each(50,
                               [&](std::int64_t i, int) {
                                 if (i == 20) throw std::runtime_error("twenty");
                               }),
                 std::runtime_error);
    std::atomic<int> count{0};
    pool.for_each(50, [&](std::int64_t, int) { ++count; });
    ASSERT_EQ(count, 50);
  }
}

TEST(ThreadPool, RefusesNestedLoops) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.for_each(4, [&](std::int64_t, int) { pool.for_each(4, [](std::int64_t, int) {}); }), InternalError);
}

// Address space for a few hundred stacks: the system refuses the rest.
TEST(ThreadPool, AMachineWithTooFewThreadsSaysSo) {
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer or an emulator needs more address space than this test leaves";
#else
  auto words = [] {
    const rlimit limit{1 << 30, 1 << 30};
    setrlimit(RLIMIT_AS, &limit);
    try {
      ThreadPool pool(4096);
    } catch (const MachineError& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::_Exit(7);
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(words(), testing::ExitedWithCode(7),
              "\\[threads\\] 4096 threads; the system gave [0-9]+: .*ask for fewer");
#endif
}

TEST(ThreadPool, Words) {
  try {
    ThreadPool pool(-1);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "[threads] a number of threads from 1 to 4096, or 0 for all cores; got -1; change the `threads` setting");
  }
}

}  // namespace
}  // namespace vortex
