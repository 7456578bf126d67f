// Each wall is put up in a child, which reports what still works. A kernel without the wall skips with its reason.
#include "sandbox/confine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace vortex::sandbox {
namespace {

// What `action` returns in a child of its own, 0 to 255.
template <class Action>
int in_child(Action action) {
  const pid_t child = fork();
  if (child == 0) _exit(action());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

bool denied(long result, int error) { return result == -1 && errno == error; }

TEST(Confine, CallsThatReachOutsideFail) {
  if (std::string why = seccomp_missing(); !why.empty()) GTEST_SKIP() << why;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int failed = in_child([&] {
    restrict_calls({ends[1]});
    if (write(ends[1], "x", 1) != 1) return 1;
    if (!denied(write(2, "x", 1), EPERM)) return 2;
    if (!denied(open("/dev/null", O_WRONLY), EPERM)) return 3;
    if (open("/dev/null", O_RDONLY) < 0) return 4;
    if (!denied(socket(AF_UNIX, SOCK_STREAM, 0), EPERM)) return 5;
    if (!denied(fork(), EPERM)) return 6;
    if (!denied(kill(getppid(), 0), EPERM)) return 7;
    if (!denied(unlink("/nothing/there"), EPERM)) return 8;
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 9;
    if (!denied(mprotect(page, 4096, PROT_READ | PROT_EXEC), EPERM)) return 10;
    if (fcntl(ends[1], F_GETFL) < 0 || !denied(fcntl(ends[1], F_SETFL, O_ASYNC), EPERM)) return 11;
    return 0;
  });
  EXPECT_EQ(failed, 0);
  close(ends[0]);
  close(ends[1]);
}

TEST(Confine, FilesAreReadUnderTheNamedPathsAlone) {
  if (std::string why = landlock_missing(); !why.empty()) GTEST_SKIP() << why;
  char folder[] = "/tmp/vortex-confine-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string inside = std::string(folder) + "/inside", file = inside + "/file";
  mkdir(inside.c_str(), 0700);
  close(open(file.c_str(), O_CREAT | O_WRONLY, 0600));
  const int failed = in_child([&] {
    restrict_files({inside, "/no/such/folder"});
    if (open(file.c_str(), O_RDONLY) < 0) return 1;
    if (!denied(open(file.c_str(), O_WRONLY), EACCES)) return 2;
    if (!denied(open("/etc/passwd", O_RDONLY), EACCES)) return 3;
    if (!denied(open((inside + "/other").c_str(), O_CREAT | O_WRONLY, 0600), EACCES)) return 4;
    if (!denied(unlink(file.c_str()), EACCES)) return 5;
    if (!denied(mkdir((inside + "/more").c_str(), 0700), EACCES)) return 6;
    return 0;
  });
  EXPECT_EQ(failed, 0);
  unlink(file.c_str());
  rmdir(inside.c_str());
  rmdir(folder);
}

TEST(Confine, AnswersCarryTheSeal) {
  new_seal();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_TRUE(write_answer(ends[1], "a program"));
  char bytes[64];
  const ssize_t count = read(ends[0], bytes, sizeof bytes);
  ASSERT_EQ(count, 4 + 16 + 9);
  std::string text;
  EXPECT_TRUE(open_answer(std::string(bytes + 4, 25), text));
  EXPECT_EQ(text, "a program");
  EXPECT_FALSE(open_answer("0123456789abcdefa program", text));
  EXPECT_FALSE(open_answer("short", text));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace vortex::sandbox
