// Plain memory as a device: a stream runs what it is given at once, a graph is the list of what was captured.
#include "device/cpu/cpu_device.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <unordered_map>

#include "base/memory.h"

namespace vortex::device {
namespace {

class CpuEvent final : public Event {
 public:
  std::chrono::steady_clock::time_point time{};
};

class CpuGraph final : public Graph {
 public:
  std::int64_t nodes() const override { return static_cast<std::int64_t>(work.size()); }
  std::vector<std::function<void()>> work;
};

class CpuStream final : public Stream {
 public:
  void copy(void* to, const void* from, std::int64_t bytes, Direction) override {
    put([=] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); });
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes) override {
    put([=] { std::memset(to, value, static_cast<std::size_t>(bytes)); });
  }
  void record(Event& event) override {
    put([&event] { static_cast<CpuEvent&>(event).time = std::chrono::steady_clock::now(); });
  }
  void wait(Event&) override {}  // streams of the cpu run at once, so what came before has run
  void synchronize() override { VORTEX_CHECK(capture_ == nullptr, "synchronize while capturing"); }

  void begin_capture() override {
    VORTEX_CHECK(capture_ == nullptr, "capture inside a capture");
    capture_ = std::make_unique<CpuGraph>();
  }
  std::unique_ptr<Graph> end_capture() override {
    VORTEX_CHECK(capture_ != nullptr, "no capture to end");
    return std::move(capture_);
  }
  void launch(Graph& graph) override {
    VORTEX_CHECK(capture_ == nullptr, "graph launched while capturing");
    for (const auto& task : static_cast<CpuGraph&>(graph).work) task();
  }

 protected:
  void launch_raw(const Kernel& kernel, Extent3, Extent3, const void*, std::size_t, unsigned, Start,
                  unsigned) override {
    throw InternalError("device cpu", "work for plain memory was required", concat("the CUDA kernel ", kernel.name),
                        "launch it on a cuda device");
  }

 private:
  template <class Task>
  void put(Task task) {
    if (capture_ != nullptr) {
      capture_->work.emplace_back(task);
    } else {
      task();
    }
  }

  std::unique_ptr<CpuGraph> capture_;
};

class CpuDevice final : public Device {
 public:
  Kind kind() const override { return Kind::cpu; }
  std::string describe() const override { return "cpu"; }
  std::string architecture() const override { return ""; }

  void* allocate(std::int64_t bytes) override {
    VORTEX_CHECK(bytes >= 0, "bytes ", bytes);
    const auto size = (static_cast<std::size_t>(bytes) + kAlignment) / kAlignment * kAlignment;
    void* memory = ::operator new (size, std::align_val_t{kAlignment}, std::nothrow);
    if (memory == nullptr) {
      throw MachineError("device cpu", concat(bytes, " bytes of memory were required"), "the system has not enough",
                         "use a smaller pool or a smaller model");
    }
    const std::lock_guard lock(mutex_);
    sizes_[memory] = bytes;
    allocated_ += bytes;
    return memory;
  }
  void free(void* memory) noexcept override {
    if (memory == nullptr) return;
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(memory);
    if (found == sizes_.end()) return;
    allocated_ -= found->second;
    sizes_.erase(found);
    ::operator delete (memory, std::align_val_t{kAlignment});
  }
  std::int64_t allocated_bytes() const override { return allocated_; }
  std::int64_t free_bytes() const override { return available_memory(); }
  int multiprocessors() const override { return 1; }

  std::unique_ptr<Stream> make_stream() override { return std::make_unique<CpuStream>(); }
  std::unique_ptr<Event> make_event() override { return std::make_unique<CpuEvent>(); }
  double milliseconds(Event& from, Event& to) override {
    return std::chrono::duration<double, std::milli>(static_cast<CpuEvent&>(to).time -
                                                     static_cast<CpuEvent&>(from).time)
        .count();
  }
  void wait(Event&) override {}  // what came before has run
  std::unique_ptr<Module> load(const Source& source) override {
    throw MachineError("device cpu", concat("a device that runs CUDA kernels was required by ", source.name),
                       "the cpu device, which runs none", "open a cuda device, or the null device to plan without one");
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  std::mutex mutex_;
  std::unordered_map<void*, std::int64_t> sizes_;
  std::atomic<std::int64_t> allocated_ = 0;
};

}  // namespace

std::shared_ptr<Device> open_cpu() { return std::make_shared<CpuDevice>(); }

}  // namespace vortex::device
