// Where NVRTC is looked for.
#include "device/cuda/nvrtc.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "device/cuda/library.h"

namespace vortex::device {
namespace {

TEST(Nvrtc, IsLookedForByTheLoaderThenBesideThePackageThenInToolkits) {
  unsetenv("VORTEX_NVRTC");
  setenv("CUDA_HOME", "/toolkit", 1);
  const std::vector<std::string> files = nvrtc_files();
  unsetenv("CUDA_HOME");
  EXPECT_EQ(files.front(), "libnvrtc.so.13");
  ASSERT_FALSE(own_folder().empty());
  const auto place = [&](const std::string& file) { return std::find(files.begin(), files.end(), file); };
  const auto beside = place(own_folder() + "/../nvidia/cu13/lib/libnvrtc.so.13");
  const auto toolkit = place("/toolkit/lib64/libnvrtc.so.13");
  EXPECT_TRUE(beside < toolkit && toolkit < files.end());
  EXPECT_TRUE(place(own_folder() + "/../../nvidia/cu13/lib/libnvrtc.so.13") < toolkit);
}

TEST(Nvrtc, OneThatIsNamedIsTheOnlyOne) {
  setenv("VORTEX_NVRTC", "/mine/libnvrtc.so", 1);
  EXPECT_EQ(nvrtc_files(), std::vector<std::string>{"/mine/libnvrtc.so"});
  unsetenv("VORTEX_NVRTC");
}

}  // namespace
}  // namespace vortex::device
