// A device without hardware: hands out addresses nobody may touch, counts bytes, and records what would run. Planner
// and decode step run on it in tests, so that their host code needs no GPU to be checked. Computes nothing.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "device/device.h"

namespace vortex::device {

class NullDevice final : public Device, public std::enable_shared_from_this<NullDevice> {
 public:
  using Build = std::function<void(const Source&, const std::string& architecture)>;

  NullDevice() = default;
  // Plans for a device like that; `build` sees every module that is loaded.
  NullDevice(std::string architecture, int multiprocessors, Build build)
      : architecture_(std::move(architecture)), multiprocessors_(multiprocessors), build_(std::move(build)) {}

  Kind kind() const override { return Kind::null; }
  std::string describe() const override { return "null: plans without hardware"; }
  std::string architecture() const override { return architecture_; }  // the one planned for

  void* allocate(std::int64_t bytes) override;
  void free(void*) noexcept override;
  std::int64_t allocated_bytes() const override { return allocated_; }
  std::int64_t free_bytes() const override { return (std::int64_t{64} << 30) - allocated_; }
  int multiprocessors() const override { return multiprocessors_; }

  std::unique_ptr<Stream> make_stream() override;
  std::unique_ptr<Event> make_event() override;
  double milliseconds(Event&, Event&) override { return 0; }
  void wait(Event&) override {}
  std::unique_ptr<Module> load(const Source&) override;

  // What streams were given, a line each: "kernel plan grid 4x1x1 block 32x1x1", "copy 64 bytes to_device", "graph of
  // 12".
  const std::vector<std::string>& log() const { return log_; }
  void write(std::string line) { log_.push_back(std::move(line)); }
  // Of what it is asked from now on, memory, kernels and graphs, the count-th fails once as hardware may; 0: nothing.
  void fail_at(std::int64_t count) { fails_in_ = count; }
  void work(const std::string& what);  // MachineError when it is that one's turn
  // InternalError unless [at, at + bytes) lies in memory that this device handed out.
  void check_range(const void* at, std::int64_t bytes, const char* what) const;

 private:
  std::map<std::uintptr_t, std::int64_t> blocks_;
  std::uintptr_t next_ = 0x100000;
  std::int64_t allocated_ = 0;
  std::vector<std::string> log_;
  std::string architecture_ = "sm_90a";
  int multiprocessors_ = 132;
  std::int64_t fails_in_ = 0;
  Build build_;
};

}  // namespace vortex::device
