// The null device: addresses, byte counts and a log.
#include "device/null/null_device.h"

#include <algorithm>

namespace vortex::device {
namespace {

class NullEvent final : public Event {};

class NullGraph final : public Graph {
 public:
  explicit NullGraph(std::int64_t nodes) : nodes_(nodes) {}
  std::int64_t nodes() const override { return nodes_; }

 private:
  std::int64_t nodes_;
};

class NullModule final : public Module {
 public:
  explicit NullModule(const Source& source) : name_(source.name) {
    for (const std::string& kernel : source.kernels) {
      // A name that the text does not define would be found out only on hardware.
      const auto defines = [&](const std::string& text) {
        return text.find(kernel + "(") != std::string::npos ||
               text.find("(" + kernel + ",") != std::string::npos;  // by a macro that takes its name first
      };
      bool defined = defines(source.text);
      for (const Header& header : source.headers) defined = defined || defines(header.text);
      VORTEX_CHECK(defined, "module ", source.name, ", kernel ", kernel);
      kernels_.push_back({this, kernel, source.name});
    }
  }
  const Kernel& kernel(std::string_view name) const override {
    const auto found = std::find_if(kernels_.begin(), kernels_.end(), [&](const Kernel& k) { return k.name == name; });
    VORTEX_CHECK(found != kernels_.end(), "module ", name_, ", kernel ", name);
    return *found;
  }
  const BuildReport& report() const override { return report_; }

 private:
  std::string name_;
  std::vector<Kernel> kernels_;
  BuildReport report_{.from_cache = false, .milliseconds = 0, .note = "null device: not compiled"};
};

class NullStream final : public Stream {
 public:
  explicit NullStream(std::shared_ptr<NullDevice> device) : device_(std::move(device)) {}

  void copy(void* to, const void* from, std::int64_t bytes, Direction direction) override {
    if (direction != Direction::to_host) device_->check_range(to, bytes, "copy to");
    if (direction != Direction::to_device) device_->check_range(from, bytes, "copy from");
    VORTEX_CHECK(!capturing_ || direction == Direction::on_device, "copy ", name_of(direction), " inside a capture");
    put(concat("copy ", bytes, " bytes ", name_of(direction)));
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes) override {
    device_->check_range(to, bytes, "fill");
    put(concat("fill ", bytes, " bytes with ", static_cast<int>(value)));
  }
  void record(Event&) override {}
  void wait(Event&) override {}
  void synchronize() override { VORTEX_CHECK(!capturing_, "synchronize while capturing"); }

  void begin_capture() override {
    VORTEX_CHECK(!capturing_, "capture inside a capture");
    capturing_ = true;
    captured_ = 0;
  }
  std::unique_ptr<Graph> end_capture() override {
    VORTEX_CHECK(capturing_, "no capture to end");
    capturing_ = false;
    device_->work("a graph");
    return std::make_unique<NullGraph>(captured_);
  }
  void launch(Graph& graph) override {
    VORTEX_CHECK(!capturing_, "graph launched while capturing");
    device_->work("a graph's launch");
    device_->write(concat("graph of ", graph.nodes()));
  }

 protected:
  void launch_raw(const Kernel& kernel, Extent3 grid, Extent3 block, const void*, std::size_t, unsigned shared, Start,
                  unsigned cluster) override {
    const unsigned threads = block.x * block.y * block.z;
    VORTEX_CHECK(grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y < 65536 && grid.z < 65536, kernel.name, " grid ",
                 grid.x, "x", grid.y, "x", grid.z);
    VORTEX_CHECK(threads > 0 && threads <= 1024, kernel.name, " block of ", threads);
    VORTEX_CHECK(shared <= 227 * 1024, kernel.name, " shared ", shared);
    device_->work(kernel.name);
    VORTEX_CHECK(cluster == 0 || (cluster <= 8 && grid.x % cluster == 0), kernel.name, " clusters of ", cluster, " in ",
                 grid.x, " blocks");
    put(concat("kernel ", kernel.name, " grid ", grid.x, "x", grid.y, "x", grid.z, " block ", block.x, "x", block.y,
               "x", block.z, cluster == 0 ? std::string() : concat(" cluster ", cluster),
               shared == 0 ? std::string() : concat(" shared ", shared)));
  }

 private:
  void put(std::string line) {
    if (capturing_) ++captured_;
    device_->write((capturing_ ? "captured " : "") + line);
  }

  std::shared_ptr<NullDevice> device_;
  bool capturing_ = false;
  std::int64_t captured_ = 0;
};

}  // namespace

void* NullDevice::allocate(std::int64_t bytes) {
  VORTEX_CHECK(bytes >= 0, "bytes ", bytes);
  work(concat(bytes, " bytes"));
  const std::uintptr_t at = next_;
  blocks_[at] = bytes;
  next_ +=
      (static_cast<std::uintptr_t>(bytes) + 4096) / 256 * 256;  // a gap after each block, so that overruns are seen
  allocated_ += bytes;
  return reinterpret_cast<void*>(at);
}

void NullDevice::work(const std::string& what) {
  if (fails_in_ > 0 && --fails_in_ == 0)
    throw MachineError("device null", what, "a failure that was asked for", "ask for none");
}

void NullDevice::free(void* memory) noexcept {
  const auto found = blocks_.find(reinterpret_cast<std::uintptr_t>(memory));
  if (found == blocks_.end()) return;
  allocated_ -= found->second;
  blocks_.erase(found);
}

std::unique_ptr<Stream> NullDevice::make_stream() { return std::make_unique<NullStream>(shared_from_this()); }
std::unique_ptr<Event> NullDevice::make_event() { return std::make_unique<NullEvent>(); }
std::unique_ptr<Module> NullDevice::load(const Source& source) {
  auto out = std::make_unique<NullModule>(source);
  if (build_) build_(source, architecture_);
  return out;
}

void NullDevice::check_range(const void* at, std::int64_t bytes, const char* what) const {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  auto block = blocks_.upper_bound(address);
  VORTEX_CHECK(block != blocks_.begin(), what, " before all memory of the device");
  --block;
  VORTEX_CHECK(
      address + static_cast<std::uintptr_t>(bytes) <= block->first + static_cast<std::uintptr_t>(block->second), what,
      " of ", bytes, " bytes at ", address - block->first, " of a block of ", block->second);
}

}  // namespace vortex::device
