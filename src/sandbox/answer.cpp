// Answers with a seal: what the code of a file writes to the descriptor by itself does not pass for an answer.
#include <sys/random.h>
#include <unistd.h>
#include <vortex/error.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "sandbox/confine.h"

namespace vortex::sandbox {

namespace {

constexpr std::size_t kSeal = 16;
std::string seal;

}  // namespace

void new_seal() {
  seal.assign(kSeal, '\0');
  if (getrandom(seal.data(), seal.size(), 0) != static_cast<ssize_t>(kSeal))
    throw MachineError("sandbox", "random numbers from the kernel", std::strerror(errno), "");
}

bool write_answer(int descriptor, const std::string& text) {
  const auto size = static_cast<std::uint32_t>(seal.size() + text.size());
  std::string all(reinterpret_cast<const char*>(&size), sizeof size);
  all += seal + text;
  for (std::size_t done = 0; done < all.size();) {
    const ssize_t count = write(descriptor, all.data() + done, all.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

bool open_answer(const std::string& answer, std::string& text) {
  if (seal.size() != kSeal || answer.compare(0, kSeal, seal) != 0) return false;
  text = answer.substr(kSeal);
  return true;
}

}  // namespace vortex::sandbox
