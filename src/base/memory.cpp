#include "base/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>

namespace vortex {

namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max() / 2;

// A file of one number. "max", no file, or a number beyond what fits: no limit.
std::int64_t number_in(const std::string& path, std::int64_t otherwise) {
  std::int64_t value = 0;
  return std::ifstream(path) >> value ? std::min(value, kUnlimited) : otherwise;
}

// The bytes that a line "name NUMBER" gives, 0 without one.
std::int64_t line_in(const std::string& path, const std::string& wanted) {
  std::ifstream file(path);
  std::int64_t value = 0;
  for (std::string name; file >> name >> value;)
    if (name == wanted) return value;
  return 0;
}

std::int64_t room_in(std::int64_t limit, std::int64_t used, std::int64_t droppable) {
  return limit >= kUnlimited ? kUnlimited
                             : std::max<std::int64_t>(0, limit - std::max<std::int64_t>(0, used - droppable));
}

// Of one group, version 2 and version 1 of the interface.
std::int64_t room_of_group(const std::string& folder) {
  return room_in(number_in(folder + "/memory.max", kUnlimited), number_in(folder + "/memory.current", 0),
                 line_in(folder + "/memory.stat", "inactive_file"));
}

std::int64_t room_of_old_group(const std::string& folder) {
  return room_in(number_in(folder + "/memory.limit_in_bytes", kUnlimited),
                 number_in(folder + "/memory.usage_in_bytes", 0),
                 line_in(folder + "/memory.stat", "total_inactive_file"));
}

// The least room of a group and of those it is in.
template <class Room>
std::int64_t least_room(const std::string& top, std::string path, Room&& room) {
  std::int64_t least = room(top);
  while (path.size() > 1) {
    least = std::min(least, room(top + path));
    path.erase(path.rfind('/'));
  }
  return least;
}

}  // namespace

std::int64_t available_memory(const std::string& root) {
  std::int64_t available = kUnlimited;
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string name, rest; meminfo >> name;) {
    std::int64_t kibibytes = 0;
    meminfo >> kibibytes;
    std::getline(meminfo, rest);
    if (name == "MemAvailable:") available = std::min(available, kibibytes * 1024);
  }
  std::string own, old;  // paths of the process's groups, as seen from where the groups are mounted
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // number:controllers:path
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) own = path;
    if (controllers == "memory") old = path;
  }
  available = std::min(available, least_room(root + "/sys/fs/cgroup", own, room_of_group));
  return std::min(available, least_room(root + "/sys/fs/cgroup/memory", old, room_of_old_group));
}

}  // namespace vortex
