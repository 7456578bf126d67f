// The CUDA device: memory, streams, events, graphs, and modules compiled by NVRTC through the cache on disk.
#include "device/cuda/cuda_device.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "device/cuda/binary_cache.h"
#include "device/cuda/driver.h"
#include "device/cuda/nvrtc.h"

namespace vortex::device {
namespace {

CUdeviceptr address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

// The retained primary context; kept alive by everything made in it.
class Context {
 public:
  explicit Context(int index) {
    int count = 0;
    check_driver(driver().device_count(&count), "a list of devices");
    if (index < 0 || index >= count) {
      throw MachineError(
          "device cuda", concat("device ", index, " was required"), concat("the driver shows ", count),
          count == 0 ? "check nvidia-smi and CUDA_VISIBLE_DEVICES" : concat("use an index below ", count));
    }
    check_driver(driver().device(&device_, index), "a device handle");
    check_driver(driver().retain_context(&context_, device_), "a context on the device");
  }
  ~Context() { driver().release_context(device_); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  void enter() const { check_driver(driver().set_context(context_), "the device's context"); }
  CUdevice device() const { return device_; }

 private:
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
};

using SharedContext = std::shared_ptr<const Context>;

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(SharedContext context) : context_(std::move(context)) {
    context_->enter();
    check_driver(driver().event_create(&event, CU_EVENT_DEFAULT), "an event");
  }
  ~CudaEvent() override { driver().event_destroy(event); }
  CUevent event = nullptr;

 private:
  SharedContext context_;
};

class CudaGraph final : public Graph {
 public:
  CudaGraph(SharedContext context, CUgraph graph) : context_(std::move(context)) {
    std::size_t count = 0;
    CUresult result = driver().graph_nodes(graph, nullptr, &count);
    nodes_ = static_cast<std::int64_t>(count);
    if (result == CUDA_SUCCESS) result = driver().graph_instantiate(&executable, graph, 0);
    driver().graph_destroy(graph);
    check_driver(result, "an instantiated graph");
  }
  ~CudaGraph() override { driver().graph_exec_destroy(executable); }
  std::int64_t nodes() const override { return nodes_; }
  CUgraphExec executable = nullptr;

 private:
  SharedContext context_;
  std::int64_t nodes_ = 0;
};

class CudaModule final : public Module {
 public:
  CudaModule(SharedContext context, const Source& source, const std::string& binary, BuildReport report)
      : context_(std::move(context)), name_(source.name), report_(std::move(report)) {
    context_->enter();
    check_driver(driver().module_load(&module_, binary.data()), "a loaded module");
    for (const std::string& kernel : source.kernels) {
      CUfunction function = nullptr;
      check_driver(driver().module_function(&function, module_, kernel.c_str()), concat("kernel ", kernel).c_str());
      kernels_.push_back({function, kernel, source.name});
    }
  }
  ~CudaModule() override { driver().module_unload(module_); }

  const Kernel& kernel(std::string_view name) const override {
    const auto found = std::find_if(kernels_.begin(), kernels_.end(), [&](const Kernel& k) { return k.name == name; });
    VORTEX_CHECK(found != kernels_.end(), "module ", name_, ", kernel ", name);
    return *found;
  }
  const BuildReport& report() const override { return report_; }

 private:
  SharedContext context_;
  std::string name_;
  CUmodule module_ = nullptr;
  std::vector<Kernel> kernels_;
  BuildReport report_;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(SharedContext context) : context_(std::move(context)) {
    context_->enter();
    check_driver(driver().stream_create(&stream_, CU_STREAM_NON_BLOCKING), "a stream");
  }
  ~CudaStream() override { driver().stream_destroy(stream_); }

  void copy(void* to, const void* from, std::int64_t bytes, Direction direction) override {
    VORTEX_CHECK(!capturing_ || direction == Direction::on_device, "copy ", name_of(direction), " inside a capture");
    if (bytes == 0) return;
    context_->enter();
    check_driver(driver().copy(address(to), address(from), static_cast<std::size_t>(bytes), stream_), "a copy");
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes) override {
    if (bytes == 0) return;
    context_->enter();
    check_driver(driver().fill(address(to), value, static_cast<std::size_t>(bytes), stream_), "a fill");
  }
  void record(Event& event) override {
    context_->enter();
    check_driver(driver().event_record(static_cast<CudaEvent&>(event).event, stream_), "a recorded event");
  }
  void wait(Event& event) override {
    context_->enter();
    check_driver(driver().stream_wait(stream_, static_cast<CudaEvent&>(event).event, 0), "a wait for an event");
  }
  void synchronize() override {
    VORTEX_CHECK(!capturing_, "synchronize while capturing");
    context_->enter();
    check_driver(driver().stream_synchronize(stream_), "work on the stream that ends well");
  }

  void begin_capture() override {
    VORTEX_CHECK(!capturing_, "capture inside a capture");
    context_->enter();
    check_driver(driver().begin_capture(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "a capture");
    capturing_ = true;
  }
  std::unique_ptr<Graph> end_capture() override {
    VORTEX_CHECK(capturing_, "no capture to end");
    capturing_ = false;
    context_->enter();
    CUgraph graph = nullptr;
    check_driver(driver().end_capture(stream_, &graph), "a captured graph");
    return std::make_unique<CudaGraph>(context_, graph);
  }
  void launch(Graph& graph) override {
    VORTEX_CHECK(!capturing_, "graph launched while capturing");
    context_->enter();
    check_driver(driver().graph_launch(static_cast<CudaGraph&>(graph).executable, stream_), "a graph launch");
  }

 protected:
  void launch_raw(const Kernel& kernel, Extent3 grid, Extent3 block, const void* arguments, std::size_t,
                  unsigned shared, Start start, unsigned cluster) override {
    constexpr unsigned kSharedWithoutAsking = 48 * 1024;
    context_->enter();
    const CUfunction function = static_cast<CUfunction>(kernel.handle);
    if (shared > kSharedWithoutAsking) {
      check_driver(
          driver().set_function(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(shared)),
          concat(shared, " bytes of shared memory for ", kernel.name).c_str());
    }
    CUlaunchAttribute attributes[2] = {};
    unsigned count = 0;
    if (start == Start::early) {
      attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
      attributes[count++].value.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster != 0) {
      attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
      attributes[count++].value.clusterDim = {cluster, 1, 1};
    }
    CUlaunchConfig config{};
    config.gridDimX = grid.x, config.gridDimY = grid.y, config.gridDimZ = grid.z;
    config.blockDimX = block.x, config.blockDimY = block.y, config.blockDimZ = block.z;
    config.sharedMemBytes = shared, config.hStream = stream_;
    config.attrs = attributes, config.numAttrs = count;
    void* parameters[] = {const_cast<void*>(arguments)};
    const CUresult result = driver().launch(&config, function, parameters, nullptr);
    if (result != CUDA_SUCCESS) check_driver(result, concat("a launch of ", kernel.name).c_str());
  }

 private:
  SharedContext context_;
  CUstream stream_ = nullptr;
  bool capturing_ = false;
};

CacheResult cached(const Source& source, const std::string& architecture) {
  const BinaryCache cache(BinaryCache::default_folder());
  return cache.get(identity_of(source, architecture), [&] { return compile_text(source, architecture).binary; });
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : context_(std::make_shared<Context>(index)) {
    char name[128] = "";
    check_driver(driver().device_name(name, sizeof(name), context_->device()), "the device's name");
    int major = 0, minor = 0, version = 0;
    check_driver(driver().device_attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, context_->device()),
                 "the compute capability");
    check_driver(driver().device_attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, context_->device()),
                 "the compute capability");
    check_driver(driver().driver_version(&version), "the driver's version");
    check_driver(
        driver().device_attribute(&multiprocessors_, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, context_->device()),
        "the number of multiprocessors");
    if (major < 8) {
      throw MachineError("device cuda", "compute capability 8.0 or newer was required",
                         concat(name, " has ", major, ".", minor), "use an Ampere GPU or newer, or the cpu device");
    }
    architecture_ = nvrtc_architecture(major, minor);
    description_ = concat(name, ", ", architecture_, ", driver for CUDA ", version / 1000, ".", version % 1000 / 10,
                          ", NVRTC ", nvrtc_version());
  }

  Kind kind() const override { return Kind::cuda; }
  std::string describe() const override { return description_; }
  std::string architecture() const override { return architecture_; }

  void* allocate(std::int64_t bytes) override {
    VORTEX_CHECK(bytes >= 0, "bytes ", bytes);
    context_->enter();
    CUdeviceptr memory = 0;
    const CUresult result = driver().allocate(&memory, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)));
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
      std::size_t available = 0, total = 0;
      driver().memory_info(&available, &total);
      throw MachineError("device cuda", concat(bytes, " bytes of device memory were required"),
                         concat(available, " of ", total, " are free"), "use a smaller pool or a smaller model");
    }
    check_driver(result, "device memory");
    void* pointer = reinterpret_cast<void*>(memory);
    const std::lock_guard lock(mutex_);
    sizes_[pointer] = bytes;
    allocated_ += bytes;
    return pointer;
  }
  void free(void* memory) noexcept override {
    if (memory == nullptr) return;
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(memory);
    if (found == sizes_.end()) return;
    allocated_ -= found->second;
    sizes_.erase(found);
    driver().free(address(memory));
  }
  std::int64_t allocated_bytes() const override { return allocated_; }
  std::int64_t free_bytes() const override {
    context_->enter();
    std::size_t available = 0, total = 0;
    check_driver(driver().memory_info(&available, &total), "the device's free memory");
    return static_cast<std::int64_t>(available);
  }
  void* allocate_pinned(std::int64_t bytes) override {
    context_->enter();
    void* memory = nullptr;
    const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    check_driver(driver().host_allocate(&memory, size, 0), concat(bytes, " bytes of host memory for copies").c_str());
    std::memset(memory, 0, size);
    return memory;
  }
  void free_pinned(void* memory) noexcept override { driver().host_free(memory); }
  int multiprocessors() const override { return multiprocessors_; }

  std::unique_ptr<Stream> make_stream() override { return std::make_unique<CudaStream>(context_); }
  std::unique_ptr<Event> make_event() override { return std::make_unique<CudaEvent>(context_); }
  double milliseconds(Event& from, Event& to) override {
    context_->enter();
    float out = 0;
    check_driver(driver().event_synchronize(static_cast<CudaEvent&>(to).event), "an event that was recorded");
    check_driver(driver().event_elapsed(&out, static_cast<CudaEvent&>(from).event, static_cast<CudaEvent&>(to).event),
                 "the time between two events");
    return out;
  }

  void wait(Event& event) override {
    context_->enter();
    check_driver(driver().event_synchronize(static_cast<CudaEvent&>(event).event), "work on the stream that ends well");
  }

  std::unique_ptr<Module> load(const Source& source) override {
    const auto start = std::chrono::steady_clock::now();
    const CacheResult result = cached(source, architecture_);
    BuildReport report{.from_cache = result.hit, .milliseconds = 0, .note = result.note};
    report.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return std::make_unique<CudaModule>(context_, source, result.binary, std::move(report));
  }

 private:
  SharedContext context_;
  std::string description_, architecture_;
  int multiprocessors_ = 0;
  std::mutex mutex_;
  std::unordered_map<void*, std::int64_t> sizes_;
  std::atomic<std::int64_t> allocated_ = 0;
};

}  // namespace

std::string identity_of(const Source& source, const std::string& architecture) {
  std::string out = concat("// ", source.name, " for ", architecture, ", NVRTC ", nvrtc_version(), ", flags ",
                           join(nvrtc_flags(), " "), "\n// kernels ", join(source.kernels, " "), "\n");
  for (const Header& header : source.headers) out += concat("// header ", header.name, "\n", header.text, "\n");
  return concat(out, "// text\n", source.text);
}

void build_cuda(const Source& source, const std::string& architecture) { cached(source, architecture); }

std::shared_ptr<Device> open_cuda(int index) { return std::make_shared<CudaDevice>(index); }

}  // namespace vortex::device
