#include "base/threads.h"

#include <sched.h>
#include <vortex/error.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "base/env.h"
#include "base/text.h"

namespace vortex {

// cpu.max holds "QUOTA PERIOD" or "max PERIOD".
int usable_cores() {
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  double quota = 0, period = 0;
  if (std::ifstream("/sys/fs/cgroup/cpu.max") >> quota >> period && quota > 0 && period > 0)
    cores = std::min(cores, std::max(1, static_cast<int>(quota / period)));
  return cores;
}

int thread_count(int asked) {
  if (asked < 0 || asked > 4096)
    throw UserError("threads", "a number of threads from 1 to 4096, or 0 for all cores", concat("got ", asked),
                    "change the `threads` setting");
  if (asked == 0) asked = static_cast<int>(env_number("VORTEX_THREADS", 0, 4096));
  return asked == 0 ? usable_cores() : asked;
}

}  // namespace vortex
