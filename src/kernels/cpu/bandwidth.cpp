// The reading loop is compiled once per instruction set by Highway.
#include "kernels/cpu/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/large_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bandwidth.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The sum modulo 2^64 of `count` words; count is a multiple of 64, the words are aligned to 64 bytes.
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
  // Word i of chunk c is c · start + (i + 1) · step.
  constexpr std::uint64_t start = 0x9e3779b97f4a7c15u, step = 0xbf58476d1ce4e5b9u;
  pool.for_each(chunks, [&](std::int64_t chunk, int) {
    std::uint64_t value = static_cast<std::uint64_t>(chunk) * start;
    for (std::int64_t i = 0; i < kChunkWords; ++i) words[chunk * kChunkWords + i] = value += step;
  });

  std::vector<std::uint64_t> sums(static_cast<std::size_t>(chunks));
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
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const std::uint64_t n = kChunkWords;
      VORTEX_CHECK(sums[static_cast<std::size_t>(chunk)] == n * start * static_cast<std::uint64_t>(chunk) + n * (n + 1) / 2 * step,
                   "chunk ", chunk);
    }
  }
  double best = 0, median = 0;
  for (std::vector<double>& times : seconds) {
    std::sort(times.begin(), times.end());
    best += times.front();
    median += times[times.size() / 2];
  }
  const double total = static_cast<double>(slices * kSlice);
  return {.bytes_per_second = total / best, .median = total / median, .threads = pool.threads(), .passes = passes,
          .bytes = slices * kSlice};
}

}  // namespace vortex::kernels
#endif  // HWY_ONCE
