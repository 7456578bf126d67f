#include "device/profile.h"

#include <algorithm>

namespace vortex::device {

namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

void ProfiledStream::begin_capture() { VORTEX_CHECK(false, "a capture of kernels that are timed one by one"); }
std::unique_ptr<Graph> ProfiledStream::end_capture() {
  VORTEX_CHECK(false, "a capture of kernels that are timed one by one");
}

std::unique_ptr<Event> ProfiledStream::mark() {
  std::unique_ptr<Event> event = device_.make_event();
  to_.record(*event);
  return event;
}

void ProfiledStream::begin_pass() { passes_.push_back({.begin = mark(), .launches = {}}); }

void ProfiledStream::launch_raw(const Kernel& kernel, Extent3 grid, Extent3 block, const void* arguments,
                                std::size_t bytes, unsigned shared_bytes, Start, unsigned cluster) {
  VORTEX_CHECK(!passes_.empty(), "a launch outside a pass");
  to_.launch_bytes(kernel, grid, block, arguments, bytes, shared_bytes, Start::after, cluster);
  passes_.back().launches.push_back({kernel.handle, kernel.name, kernel.module, mark()});
}

// Between two events with nothing between them.
double ProfiledStream::event_milliseconds() {
  std::vector<std::unique_ptr<Event>> events;
  for (int i = 0; i < 33; ++i) events.push_back(mark());
  std::vector<double> gaps;
  for (std::size_t i = 1; i < events.size(); ++i) gaps.push_back(device_.milliseconds(*events[i - 1], *events[i]));
  return median(gaps);
}

std::vector<KernelTime> ProfiledStream::times() {
  VORTEX_CHECK(!passes_.empty(), "no pass");
  const double event = event_milliseconds();
  to_.synchronize();
  const std::vector<Launch>& first = passes_[0].launches;
  std::vector<KernelTime> out;
  std::vector<const void*> handles;
  for (std::size_t i = 0; i < first.size(); ++i) {
    std::vector<double> took;
    for (const Pass& pass : passes_) {
      VORTEX_CHECK(pass.launches.size() == first.size(), "passes of ", pass.launches.size(), " and ", first.size(),
                   " launches");
      Event& before = i == 0 ? *pass.begin : *pass.launches[i - 1].end;
      took.push_back(device_.milliseconds(before, *pass.launches[i].end));
    }
    std::size_t row = 0;
    while (row < out.size() && (handles[row] != first[i].handle || out[row].kernel != first[i].kernel ||
                                out[row].module != first[i].module))
      ++row;
    if (row == out.size()) {
      out.push_back({.kernel = first[i].kernel, .module = first[i].module});
      handles.push_back(first[i].handle);
    }
    ++out[row].launches;
    out[row].milliseconds += std::max(median(took) - event, 0.0);
  }
  return out;
}

}  // namespace vortex::device
