// The cache of compiled kernels: hits, torn files, a full disk, many processes at once.
#include "device/cuda/binary_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/text.h"

namespace vortex::device {
namespace {

class BinaryCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "vortex-cache-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  CacheResult get(const std::string& identity) {
    return BinaryCache(folder_ + "/cuda").get(identity, [&] {
      ++compiled_;
      return "binary of " + identity;
    });
  }
  std::size_t files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/cuda")) count += entry.is_regular_file();
    return count;
  }

  std::string folder_;
  int compiled_ = 0;
};

TEST_F(BinaryCacheTest, CompilesOnceAndKeepsSourceBesideBinary) {
  EXPECT_FALSE(get("text a").hit);
  const CacheResult again = get("text a");
  EXPECT_TRUE(again.hit);
  EXPECT_EQ(again.binary, "binary of text a");
  EXPECT_EQ(again.note, "");
  EXPECT_EQ(compiled_, 1);
  EXPECT_EQ(files(), 2u);
  std::ifstream source(BinaryCache(folder_ + "/cuda").path("text a", ".cu"));
  std::string first, second;
  std::getline(source, first);
  std::getline(source, second);
  EXPECT_EQ(first.rfind("// binary of 16 bytes, hash ", 0), 0u) << first;
  EXPECT_EQ(second, "text a");
  EXPECT_FALSE(get("text b").hit);
  EXPECT_EQ(compiled_, 2);
}

TEST_F(BinaryCacheTest, ADamagedBinaryIsCompiledAnew) {
  get("text");
  std::ofstream(BinaryCache(folder_ + "/cuda").path("text", ".cubin"), std::ios::binary) << "binary of tex_";
  const CacheResult result = get("text");
  EXPECT_FALSE(result.hit);
  EXPECT_EQ(result.binary, "binary of text");
  EXPECT_TRUE(get("text").hit);
}

TEST_F(BinaryCacheTest, AFullDiskCostsOnlyTime) {
  // A file-size limit makes writes fail as a full disk does; in a child, since a limit cannot be taken back.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4, 4};
    setrlimit(RLIMIT_FSIZE, &limit);
    const CacheResult first = get("text");
    const CacheResult second = get("text");
    const bool right = first.binary == "binary of text" && second.binary == first.binary && !second.hit &&
                       first.note.rfind("not cached: writing ", 0) == 0 &&
                       first.note.find("free space there or set VORTEX_CACHE to another folder") != std::string::npos &&
                       files() == 0;
    _exit(right ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(BinaryCacheTest, AFolderThatCannotBeMadeIsSaid) {
  std::ofstream(folder_ + "/cuda") << "a file where the folder should be";
  const CacheResult result = get("text");
  EXPECT_EQ(result.binary, "binary of text");
  EXPECT_NE(result.note.find("not cached: "), std::string::npos) << result.note;
}

TEST_F(BinaryCacheTest, ManyProcessesAgree) {
  constexpr int kProcesses = 8;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      bool right = true;
      for (int round = 0; round < 50; ++round) {
        const std::string identity = concat("text ", round % 5);
        right = right && get(identity).binary == "binary of " + identity;
      }
      _exit(right ? 0 : 1);
    }
  }
  for (int i = 0; i < kProcesses; ++i) {
    int status = 0;
    wait(&status);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(files(), 10u);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(get(concat("text ", i)).hit);
}

}  // namespace
}  // namespace vortex::device
