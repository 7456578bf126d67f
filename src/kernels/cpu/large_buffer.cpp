#include "kernels/cpu/large_buffer.h"

#include <sys/mman.h>
#include <vortex/error.h>

#include <cstdlib>

#include "base/text.h"

namespace vortex::kernels {

namespace {
constexpr std::int64_t kLine = 64, kHugePage = 2 << 20, kLarge = 1 << 20;
}

LargeBuffer::LargeBuffer(std::int64_t bytes) : size_(bytes) {
  const std::int64_t alignment = bytes >= kLarge ? kHugePage : kLine;
  const std::int64_t rounded = (bytes + alignment - 1) / alignment * alignment;
  if (rounded == 0) return;
  data_.reset(static_cast<std::uint8_t*>(
      std::aligned_alloc(static_cast<std::size_t>(alignment), static_cast<std::size_t>(rounded))));
  if (!data_)
    throw MachineError("memory", concat(bytes, " bytes for one matrix"), "the system has no more memory",
                       "use a smaller model or close other programs");
#if defined(MADV_HUGEPAGE)
  if (alignment == kHugePage) madvise(data_.get(), static_cast<std::size_t>(rounded), MADV_HUGEPAGE);
#endif
}

void LargeBuffer::Free::operator()(std::uint8_t* data) const { std::free(data); }

}  // namespace vortex::kernels
