// What a process may still take, from files as the system writes them.
#include "base/memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

namespace vortex {
namespace {

std::int64_t available(const std::map<std::string, std::string>& files) {
  const std::filesystem::path root = std::filesystem::path(::testing::TempDir()) / "vortex_memory_test";
  std::filesystem::remove_all(root);
  for (const auto& [name, text] : files) {
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  }
  const std::int64_t bytes = available_memory(root.string());
  std::filesystem::remove_all(root);
  return bytes;
}

const std::string kMeminfo = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\nHugePages_Total:  0\n";

TEST(AvailableMemory, IsWhatTheSystemHas) {
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo}}), 600 * 1024);
  EXPECT_GT(available({}), std::int64_t{1} << 60);  // nothing is known
  EXPECT_GT(available_memory(), 1 << 20);
}

TEST(AvailableMemory, IsBoundedByTheContainer) {
  const std::string top = "sys/fs/cgroup/";
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo},
                       {top + "memory.max", "300000\n"},
                       {top + "memory.current", "200000\n"},
                       {top + "memory.stat", "anon 1000\ninactive_file 50000\n"}}),
            150000);
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo}, {top + "memory.max", "max\n"}, {top + "memory.current", "5\n"}}),
            600 * 1024);
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo}, {top + "memory.max", "1000\n"}, {top + "memory.current", "2000\n"}}),
            0);
}

TEST(AvailableMemory, IsBoundedByEveryGroupAbove) {
  const std::string top = "sys/fs/cgroup/";
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo},
                       {"proc/self/cgroup", "0::/user.slice/job.scope\n"},
                       {top + "user.slice/memory.max", "400000"},
                       {top + "user.slice/memory.current", "100000"},
                       {top + "user.slice/job.scope/memory.max", "max"},
                       {top + "user.slice/job.scope/memory.current", "90000"}}),
            300000);
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo},
                       {"proc/self/cgroup", "12:cpu,cpuacct:/a\n9:memory:/docker/abc\n"},
                       {top + "memory/memory.limit_in_bytes", "9223372036854771712"},
                       {top + "memory/docker/abc/memory.limit_in_bytes", "100000"},
                       {top + "memory/docker/abc/memory.usage_in_bytes", "60000"},
                       {top + "memory/docker/abc/memory.stat", "cache 1\ntotal_inactive_file 10000\n"}}),
            50000);
  EXPECT_EQ(available({{"proc/meminfo", kMeminfo}, {"proc/self/cgroup", "nonsense\n::\n0::relative\n"}}), 600 * 1024);
}

}  // namespace
}  // namespace vortex
