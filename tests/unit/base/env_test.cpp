#include "base/env.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/check.h"
#include "base/log.h"
#include "base/thread_pool.h"

namespace vortex {
namespace {

class Env : public ::testing::Test {
 protected:
  void TearDown() override {
    ::unsetenv("VORTEX_THREADS");
    ::unsetenv("VORTEX_THREAD");
    ::unsetenv("VORTEX_WHATEVER_ELSE");
  }
};

std::string words_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Env, UnsetAndEmptyMeanTheFallback) {
  EXPECT_EQ(env("VORTEX_THREADS"), "0");
  ::setenv("VORTEX_THREADS", "", 1);
  EXPECT_EQ(env("VORTEX_THREADS"), "0");
  ::setenv("VORTEX_THREADS", "3", 1);
  EXPECT_EQ(env("VORTEX_THREADS"), "3");
}

TEST_F(Env, ATypoInAValueIsTheUsersError) {
  for (const char* value : {"many", "3 ", "3.5", "-1", "4097", "99999999999999999999"}) {
    ::setenv("VORTEX_THREADS", value, 1);
    EXPECT_EQ(words_of([] { env_number("VORTEX_THREADS", 0, 4096); }),
              concat("[VORTEX_THREADS] a whole number from 0 to 4096; got '", value,
                     "'; change or unset the environment variable"));
  }
}

TEST_F(Env, ANameThatIsNotInTheTableIsADefect) { EXPECT_THROW(env("VORTEX_THREAD"), InternalError); }

TEST_F(Env, UnknownNamesAreReportedWithTheNearest) {
  EXPECT_TRUE(unknown_env().empty());
  ::setenv("VORTEX_THREAD", "3", 1);
  EXPECT_EQ(unknown_env(),
            std::vector<std::string>{
                "the environment variable VORTEX_THREAD is unknown and has no effect; did you mean VORTEX_THREADS?"});
  ::unsetenv("VORTEX_THREAD");
  ::setenv("VORTEX_WHATEVER_ELSE", "3", 1);
  EXPECT_EQ(unknown_env(),
            std::vector<std::string>{"the environment variable VORTEX_WHATEVER_ELSE is unknown and has no effect"});
}

TEST_F(Env, APoolThatIsNotToldANumberTakesTheVariable) {
  ::setenv("VORTEX_THREADS", "3", 1);
  EXPECT_EQ(ThreadPool().threads(), 3);
  EXPECT_EQ(ThreadPool(2).threads(), 2);
}

TEST(Log, TheLadderDecidesWhatIsSaid) {
  std::vector<std::string> lines;
  set_log_sink([&](std::string_view line) { lines.emplace_back(line); });
  set_debug_level(1);
  debug(1, "pass ", 3);
  debug(2, "never");
  warn("page ", 4);
  set_debug_level(0);
  debug(1, "never");
  set_log_sink({});
  EXPECT_EQ(lines, (std::vector<std::string>{"pass 3", "warning: page 4"}));
  EXPECT_THROW(set_debug_level(4), InternalError);
}

}  // namespace
}  // namespace vortex
