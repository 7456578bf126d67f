// The filter of system calls: a list of those a computation needs, some with conditions on their arguments; all others
// fail with EPERM, so that the interpreter can say where.
#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vortex/error.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/text.h"
#include "sandbox/confine.h"

namespace vortex::sandbox {

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
#endif

constexpr std::uint32_t kDeny = SECCOMP_RET_ERRNO | EPERM;
constexpr std::uint32_t kWriting = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);

constexpr int kPlain[] = {
    // memory
    __NR_brk,
    __NR_munmap,
    __NR_mremap,
    __NR_madvise,
    __NR_membarrier,
    // reading
    __NR_read,
    __NR_pread64,
    __NR_readv,
    __NR_lseek,
    __NR_close,
    __NR_dup,
    __NR_fstat,
    __NR_newfstatat,
    __NR_statx,
    __NR_getdents64,
    __NR_readlinkat,
    __NR_faccessat,
    __NR_getcwd,
#ifdef __NR_faccessat2
    __NR_faccessat2,
#endif
    // itself and the time
    __NR_getpid,
    __NR_getppid,
    __NR_gettid,
    __NR_getuid,
    __NR_geteuid,
    __NR_getgid,
    __NR_getegid,
    __NR_getrusage,
    __NR_times,
    __NR_uname,
    __NR_sysinfo,
    __NR_clock_gettime,
    __NR_clock_getres,
    __NR_clock_nanosleep,
    __NR_nanosleep,
    __NR_gettimeofday,
    __NR_getrandom,
    __NR_sched_yield,
    __NR_sched_getaffinity,
    __NR_futex,
    __NR_set_robust_list,
#ifdef __NR_rseq
    __NR_rseq,
#endif
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_rt_sigreturn,
    __NR_sigaltstack,
    __NR_restart_syscall,
    __NR_ppoll,
    __NR_pselect6,
    __NR_exit,
    __NR_exit_group,
#if defined(__x86_64__)
    __NR_stat,
    __NR_lstat,
    __NR_access,
    __NR_readlink,
    __NR_poll,
    __NR_select,
    __NR_time,
    __NR_getdents,
#endif
};

// Assembles the filter. Numbers of system calls and arguments are compared by their low 32 bits unless said otherwise,
// which is what the kernel itself reads of descriptors, flags and commands.
class Filter {
 public:
  Filter() {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
    give(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(seccomp_data, nr));  // x32 calls have a bit that is in no number below
  }

  void allow(int call) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1);
    give(SECCOMP_RET_ALLOW);
  }
  // The argument is one of these values.
  void allow_if(int call, int argument, const std::vector<std::uint32_t>& values) {
    const auto count = static_cast<std::uint8_t>(values.size());
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, static_cast<std::uint8_t>(count + 3));
    load(low(argument));
    for (std::uint8_t i = 0; i < count; ++i)
      add(BPF_JMP | BPF_JEQ | BPF_K, values[i], static_cast<std::uint8_t>(count - i), 0);
    give(kDeny);
    give(SECCOMP_RET_ALLOW);
  }
  // The argument has none of these bits.
  void allow_without(int call, int argument, std::uint32_t bits) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 4);
    load(low(argument));
    add(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    give(kDeny);
    give(SECCOMP_RET_ALLOW);
  }
  // The argument is a null pointer.
  void allow_null(int call, int argument) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 6);
    load(low(argument));
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
    load(low(argument) + 4);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    give(kDeny);
    give(SECCOMP_RET_ALLOW);
  }

  void apply() {
    give(kDeny);
    sock_fprog program{static_cast<unsigned short>(code_.size()), code_.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
      throw MachineError("sandbox", "a kernel that filters system calls with seccomp", std::strerror(errno),
                         "use a kernel with seccomp filters");
  }

 private:
  static std::uint32_t low(int argument) {
    return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * static_cast<std::size_t>(argument));
  }
  void load(std::size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset), 0, 0); }
  void give(std::uint32_t action) { add(BPF_RET | BPF_K, action, 0, 0); }
  void add(int code, std::uint32_t k, std::uint8_t yes, std::uint8_t no) {
    code_.push_back({static_cast<std::uint16_t>(code), yes, no, k});
  }

  std::vector<sock_filter> code_;
};

}  // namespace

std::string seccomp_missing() {
  if (kArchitecture == 0) return "there is no filter for this processor";
  const std::uint32_t action = SECCOMP_RET_ERRNO;
  if (syscall(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return "";
  return concat("the kernel says: ", std::strerror(errno));
}

void restrict_calls(const std::vector<int>& written) {
  if (std::string missing = seccomp_missing(); !missing.empty())
    throw MachineError("sandbox", "a kernel that filters system calls with seccomp", missing,
                       "use a kernel with seccomp filters");
  Filter filter;
  for (int call : kPlain) filter.allow(call);
  filter.allow_if(__NR_write, 0, {written.begin(), written.end()});
  filter.allow_without(__NR_openat, 2, kWriting);
#ifdef __NR_open
  filter.allow_without(__NR_open, 1, kWriting);
#endif
  filter.allow_without(__NR_mmap, 2, PROT_EXEC);
  filter.allow_without(__NR_mprotect, 2, PROT_EXEC);
  filter.allow_if(__NR_fcntl, 1, {F_GETFD, F_SETFD, F_GETFL, F_DUPFD, F_DUPFD_CLOEXEC});
  filter.allow_if(__NR_ioctl, 1, {TCGETS, FIOCLEX, FIONCLEX});
  filter.allow_null(__NR_prlimit64, 2);
  filter.apply();
}

}  // namespace vortex::sandbox
