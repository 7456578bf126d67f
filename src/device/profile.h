// What the kernels of some work take, one by one: a stream that hands everything on to another and puts an event behind
// each kernel. Kernels run one after the other under it, so their sum is longer than the same work in a graph. Its own
// cost, an event, is measured and taken off. Not for work that is captured.
#pragma once

#include <memory>
#include <vector>

#include "device/device.h"

namespace vortex::device {

struct KernelTime {
  std::string kernel, module;
  std::int64_t launches = 0;
  double milliseconds = 0;  // of all launches
};

class ProfiledStream final : public Stream {
 public:
  ProfiledStream(Device& device, Stream& to) : device_(device), to_(to) {}

  void copy(void* to, const void* from, std::int64_t bytes, Direction direction) override {
    to_.copy(to, from, bytes, direction);
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes) override { to_.fill(to, value, bytes); }
  void record(Event& event) override { to_.record(event); }
  void wait(Event& event) override { to_.wait(event); }
  void synchronize() override { to_.synchronize(); }
  void begin_capture() override;  // InternalError
  std::unique_ptr<Graph> end_capture() override;
  void launch(Graph& graph) override { to_.launch(graph); }

  void begin_pass();  // a repetition of the same launches
  // By kernel and shape of launch, in the order of their first launch; each launch's median over the passes. Waits.
  std::vector<KernelTime> times();

 protected:
  void launch_raw(const Kernel&, Extent3 grid, Extent3 block, const void* arguments, std::size_t bytes,
                  unsigned shared_bytes, Start, unsigned cluster) override;

 private:
  struct Launch {
    const void* handle;
    std::string kernel, module;
    std::unique_ptr<Event> end;
  };
  struct Pass {
    std::unique_ptr<Event> begin;
    std::vector<Launch> launches;
  };
  std::unique_ptr<Event> mark();
  double event_milliseconds();

  Device& device_;
  Stream& to_;
  std::vector<Pass> passes_;
};

}  // namespace vortex::device
