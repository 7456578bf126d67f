// One small interface over the places where steps run: plain memory (cpu), hardware (cuda), or nothing at all (null,
// which plans and records without hardware). It knows memory, streams, events, graphs and kernels made from text; no
// tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace vortex::device {

enum class Kind : std::uint8_t { cpu, cuda, null };
const char* name_of(Kind);
Kind kind_of(std::string_view name);  // UserError lists the names there are

enum class Direction : std::uint8_t { to_device, to_host, on_device };
const char* name_of(Direction);

struct Extent3 {
  unsigned x = 1, y = 1, z = 1;
};

// When a kernel may begin: after the work before it on the stream, or early, while that still runs. An early one waits
// itself (wait_for_earlier in device/cuda/async.cuh), in every block, before it touches what that work makes or reads.
enum class Start : std::uint8_t { after, early };

// CUDA C++ text of one module. Every kernel is `extern "C" __global__ void name(Struct arguments)`: one parameter.
struct Header {
  std::string name;  // as it stands in #include "name"
  std::string text;
};
struct Source {
  std::string name;  // for messages and for the cache: "quest"
  std::string text;
  std::vector<Header> headers;
  std::vector<std::string> kernels;
};

struct Kernel {
  void* handle = nullptr;
  std::string name;
  std::string module;  // the source's name
};

// How a module came to be; observed, for reports.
struct BuildReport {
  bool from_cache = false;
  double milliseconds = 0;
  std::string note;  // why the cache was not used, if it was not
};

class Module {
 public:
  virtual ~Module() = default;
  virtual const Kernel& kernel(std::string_view name) const = 0;  // InternalError when the source did not list it
  virtual const BuildReport& report() const = 0;
};

class Event {
 public:
  virtual ~Event() = default;
};

class Graph {
 public:
  virtual ~Graph() = default;
  virtual std::int64_t nodes() const = 0;
};

// Work in order. What is put on a capturing stream is recorded and not run.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void copy(void* to, const void* from, std::int64_t bytes, Direction) = 0;
  virtual void fill(void* to, std::uint8_t value, std::int64_t bytes) = 0;
  virtual void record(Event&) = 0;
  virtual void wait(Event&) = 0;
  virtual void synchronize() = 0;  // MachineError when work on the stream failed; refused while capturing

  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;  // ready to launch
  virtual void launch(Graph&) = 0;

  // `arguments` is passed by value as the kernel's one parameter. cluster: neighbouring blocks along x that run
  // together and reach each other's shared memory, at most 8; 0: as the kernel's text says.
  template <class Arguments>
  void launch(const Kernel& kernel, Extent3 grid, Extent3 block, const Arguments& arguments, unsigned shared_bytes = 0,
              Start start = Start::after, unsigned cluster = 0) {
    static_assert(std::is_trivially_copyable_v<Arguments>);
    launch_raw(kernel, grid, block, &arguments, sizeof(Arguments), shared_bytes, start, cluster);
  }
  // The same, of arguments that somebody else has typed.
  void launch_bytes(const Kernel& kernel, Extent3 grid, Extent3 block, const void* arguments, std::size_t bytes,
                    unsigned shared_bytes, Start start, unsigned cluster) {
    launch_raw(kernel, grid, block, arguments, bytes, shared_bytes, start, cluster);
  }

 protected:
  virtual void launch_raw(const Kernel&, Extent3 grid, Extent3 block, const void* arguments, std::size_t bytes,
                          unsigned shared_bytes, Start, unsigned cluster) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual Kind kind() const = 0;
  virtual std::string describe() const = 0;      // "NVIDIA H200, sm_90a, driver 13.0"
  virtual std::string architecture() const = 0;  // what kernels are compiled for: "sm_90a"; "" where there are none

  virtual void* allocate(std::int64_t bytes) = 0;  // never null; MachineError when there is not enough memory
  virtual void free(void*) noexcept = 0;
  virtual std::int64_t allocated_bytes() const = 0;
  virtual std::int64_t free_bytes() const = 0;  // that can still be had
  // Host memory, zeros, that copies to the host reach at full speed.
  virtual void* allocate_pinned(std::int64_t bytes);
  virtual void free_pinned(void*) noexcept;
  virtual int multiprocessors() const = 0;  // blocks of a full multiprocessor's size that run at a time

  virtual std::unique_ptr<Stream> make_stream() = 0;
  virtual std::unique_ptr<Event> make_event() = 0;
  virtual double milliseconds(Event& from, Event& to) = 0;  // both recorded; waits for `to`
  // The host waits for what was on the stream when it was recorded. MachineError when work there failed.
  virtual void wait(Event&) = 0;

  virtual std::unique_ptr<Module> load(const Source&) = 0;
};

// MachineError says what is missing: the build's CUDA part, the driver, the device with that index.
std::shared_ptr<Device> open(Kind, int index = 0);

// A device that plans as the null one does and whose load() compiles into the cache on disk what that one's would have
// compiled, so that it finds it there. It may work in another thread beside that one. A device without a cache: itself.
std::shared_ptr<Device> builder_for(const std::shared_ptr<Device>&);

// device/cuda/device.cuh, which all device text of the project includes; empty in a build without the CUDA device.
Header device_header();
// The same of any device text of this room: "device/cuda/async.cuh".
Header device_header(std::string_view name);

// Memory of a device, freed with its owner. Elements are trivially copyable.
template <class T>
class Array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Array() = default;
  Array(std::shared_ptr<Device> device, std::int64_t count)
      : device_(std::move(device)), count_(count), data_(static_cast<T*>(device_->allocate(bytes()))) {}
  Array(Array&& other) noexcept { swap(other); }
  Array& operator=(Array&& other) noexcept {
    Array taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Array() {
    if (data_ != nullptr) device_->free(data_);
  }

  T* data() const { return data_; }
  std::int64_t count() const { return count_; }
  std::int64_t bytes() const { return count_ * static_cast<std::int64_t>(sizeof(T)); }

  void upload(Stream& stream, const T* from) { stream.copy(data_, from, bytes(), Direction::to_device); }
  void fill(Stream& stream, std::uint8_t value) { stream.fill(data_, value, bytes()); }
  // Waits for the stream: the one way a host learns what the device wrote.
  std::vector<T> download(Stream& stream) const {
    std::vector<T> out(static_cast<std::size_t>(count_));
    stream.copy(out.data(), data_, bytes(), Direction::to_host);
    stream.synchronize();
    return out;
  }

 private:
  void swap(Array& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
  }

  std::shared_ptr<Device> device_;
  std::int64_t count_ = 0;
  T* data_ = nullptr;
};

// Host memory that a device copies to and from at full speed, freed with its owner.
template <class T>
class Pinned {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Pinned() = default;
  Pinned(std::shared_ptr<Device> device, std::int64_t count)
      : device_(std::move(device)),
        data_(static_cast<T*>(device_->allocate_pinned(count * static_cast<std::int64_t>(sizeof(T))))) {}
  Pinned(Pinned&& other) noexcept { swap(other); }
  Pinned& operator=(Pinned&& other) noexcept {
    Pinned taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Pinned() {
    if (data_ != nullptr) device_->free_pinned(data_);
  }

  T* data() const { return data_; }

 private:
  void swap(Pinned& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
  }

  std::shared_ptr<Device> device_;
  T* data_ = nullptr;
};

template <class T>
Array<T> upload(const std::shared_ptr<Device>& device, Stream& stream, const std::vector<T>& values) {
  Array<T> out(device, static_cast<std::int64_t>(values.size()));
  out.upload(stream, values.data());
  stream.synchronize();  // `values` may go away
  return out;
}

}  // namespace vortex::device
