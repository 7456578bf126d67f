// The reading loop is compiled once per instruction set by Highway.
#include "kernels/cpu/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/large_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bandwidth.cpp"
// The order of these matters.
// clang-format off
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The sum of `count` words; count is a multiple of 64, the words are aligned to 64 bytes.
std::uint64_t SumWords(const std::uint64_t* words, std::size_t count) {
  const hn::ScalableTag<std::uint64_t> tag;
  const std::size_t n = hn::Lanes(tag);
  auto a = hn::Zero(tag), b = a, c = a, d = a;
  for (std::size_t i = 0; i < count; i += 4 * n) {
    a = hn::Add(a, hn::Load(tag, words + i));
    b = hn::Add(b, hn::Load(tag, words + i + n));
    c = hn::Add(c, hn::Load(tag, words + i + 2 * n));
    d = hn::Add(d, hn::Load(tag, words + i + 3 * n));
  }
  return hn::GetLane(hn::SumOfLanes(tag, hn::Add(hn::Add(a, b), hn::Add(c, d))));
}

}  // namespace HWY_NAMESPACE
}  // namespace vortex::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vortex::kernels {

HWY_EXPORT(SumWords);

ReadBandwidth measured_read_bandwidth(ThreadPool& pool, std::int64_t bytes, int passes) {
  constexpr std::int64_t kSlice = 16 << 20, kChunk = 256 << 10, kChunkWords = kChunk / 8, kChunks = kSlice / kChunk;
  if (bytes < 4 * kSlice || passes < 1)
    throw UserError("bandwidth", "a buffer of at least 64 MiB and at least one pass",
                    concat("got ", bytes, " bytes, ", passes, " passes"), "use the defaults");
  const std::int64_t slices = bytes / kSlice, chunks = slices * kChunks;
  const LargeBuffer buffer(slices * kSlice);
  auto* words = reinterpret_cast<std::uint64_t*>(buffer.data());
  // Random words below 2^32, so that the sum of a chunk is exact.
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(chunks)), expected(static_cast<std::size_t>(chunks));
  pool.for_each(chunks, [&](std::int64_t chunk, int) {
    std::uint64_t state = static_cast<std::uint64_t>(chunk), sum = 0;
    for (std::int64_t i = 0; i < kChunkWords; ++i) {
      state = state * 0x5851f42d4c957f2du + 0x14057b7ef767814fu;
      sum += words[chunk * kChunkWords + i] = state >> 32;
    }
    expected[static_cast<std::size_t>(chunk)] = sum;
  });

  std::vector<std::vector<double>> seconds(static_cast<std::size_t>(slices));
  for (int pass = 0; pass < passes; ++pass) {
    std::fill(sums.begin(), sums.end(), 0);
    for (std::int64_t slice = 0; slice < slices; ++slice) {
      const auto before = std::chrono::steady_clock::now();
      pool.for_each(kChunks, [&](std::int64_t index, int) {
        const std::int64_t chunk = slice * kChunks + index;
        sums[static_cast<std::size_t>(chunk)] =
            HWY_DYNAMIC_DISPATCH(SumWords)(words + chunk * kChunkWords, static_cast<std::size_t>(kChunkWords));
      });
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
      seconds[static_cast<std::size_t>(slice)].push_back(took.count());
    }
    for (std::size_t chunk = 0; chunk < sums.size(); ++chunk)
      VORTEX_CHECK(sums[chunk] == expected[chunk], "chunk ", chunk, " of pass ", pass);
  }
  double best = 0, median = 0;
  for (std::vector<double>& times : seconds) {
    std::sort(times.begin(), times.end());
    best += times.front();
    median += times[times.size() / 2];
  }
  const double total = static_cast<double>(slices * kSlice);
  return {.bytes_per_second = total / best,
          .median = total / median,
          .threads = pool.threads(),
          .passes = passes,
          .bytes = slices * kSlice};
}

}  // namespace vortex::kernels
#endif  // HWY_ONCE
