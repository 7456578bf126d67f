// Landlock: reading under given paths, nothing else. The kernel's numbers stand here because headers older than the
// kernel lack some of them.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vortex/error.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/text.h"
#include "sandbox/confine.h"

namespace vortex::sandbox {

namespace {

constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;  // the same on every architecture
constexpr unsigned kVersionFlag = 1, kPathBeneath = 1;
constexpr std::uint64_t kReadFile = 1 << 2, kReadFolder = 1 << 3;

struct RulesetAttr {
  std::uint64_t handled;
};
struct __attribute__((packed)) PathBeneathAttr {
  std::uint64_t allowed;
  std::int32_t parent;
};

long abi() { return syscall(kCreateRuleset, nullptr, 0, kVersionFlag); }

// Everything that a version can forbid: 13 rights in the first, then refer, truncate, and ioctl of devices.
std::uint64_t rights_of(long version) {
  std::uint64_t rights = (1 << 13) - 1;
  if (version >= 2) rights |= 1 << 13;
  if (version >= 3) rights |= 1 << 14;
  if (version >= 5) rights |= 1 << 15;
  return rights;
}

[[noreturn]] void fail(const char* what) {
  throw MachineError("sandbox", "a kernel that confines a process with Landlock",
                     concat(what, ": ", std::strerror(errno)), "use a kernel of 5.13 or later with Landlock on");
}

}  // namespace

std::string landlock_missing() {
  if (abi() >= 1) return "";
  return errno == EOPNOTSUPP ? "the kernel has it turned off" : concat("the kernel says: ", std::strerror(errno));
}

void restrict_files(const std::vector<std::string>& readable) {
  const long version = abi();
  if (version < 1) fail("landlock_create_ruleset");
  const RulesetAttr ruleset{rights_of(version)};
  const auto rules = static_cast<int>(syscall(kCreateRuleset, &ruleset, sizeof ruleset, 0));
  if (rules < 0) fail("landlock_create_ruleset");
  for (const std::string& path : readable) {
    const int at = open(path.c_str(), O_PATH | O_CLOEXEC);
    if (at < 0) continue;
    struct stat status {};
    const bool folder = fstat(at, &status) == 0 && S_ISDIR(status.st_mode);
    const PathBeneathAttr rule{folder ? kReadFile | kReadFolder : kReadFile, at};
    if (syscall(kAddRule, rules, kPathBeneath, &rule, 0) != 0) fail("landlock_add_rule");
    close(at);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("prctl");
  if (syscall(kRestrictSelf, rules, 0) != 0) fail("landlock_restrict_self");
  close(rules);
}

}  // namespace vortex::sandbox
