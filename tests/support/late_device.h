// A device in host memory that does nothing until the host waits for it, so that what a host reads too early, or
// changes too early, shows. Of all kernels it runs those around tokens: a model's likeliest token follows from its
// input token, a drawn one from that and from the number of the draw. Attention and linears are left out.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "device/device.h"
#include "kernels/cuda/linear_arguments.h"
#include "kernels/cuda/model_arguments.h"

namespace vortex::testing {

class LateDevice final : public device::Device, public std::enable_shared_from_this<LateDevice> {
 public:
  explicit LateDevice(int vocabulary) : vocabulary_(vocabulary) {}

  device::Kind kind() const override { return device::Kind::null; }
  std::string describe() const override { return "null: says tokens without a model"; }
  std::string architecture() const override { return "sm_90a"; }
  void* allocate(std::int64_t bytes) override { return allocate_pinned(bytes); }
  void free(void* memory) noexcept override { free_pinned(memory); }
  std::int64_t allocated_bytes() const override { return 0; }
  std::int64_t free_bytes() const override { return std::int64_t{8} << 30; }
  void* allocate_pinned(std::int64_t bytes) override {
    void* const memory = std::calloc(static_cast<std::size_t>(bytes) + 1, 1);
    blocks_[static_cast<std::byte*>(memory)] = bytes;
    return memory;
  }
  void free_pinned(void* memory) noexcept override {
    blocks_.erase(static_cast<std::byte*>(memory));
    std::free(memory);
  }
  int multiprocessors() const override { return 132; }
  std::unique_ptr<device::Stream> make_stream() override { return std::make_unique<LateStream>(shared_from_this()); }
  std::unique_ptr<device::Event> make_event() override { return std::make_unique<LateEvent>(); }
  double milliseconds(device::Event&, device::Event&) override { return 0; }
  void wait(device::Event& event) override {
    const auto& it = static_cast<LateEvent&>(event);
    it.stream->run(it.after);
    if (!it.stream->tasks.empty()) ++waits_amid_work_;
  }
  std::unique_ptr<device::Module> load(const device::Source& source) override {
    return std::make_unique<LateModule>(source);
  }

  // Times that the host waited for something with more work behind it.
  std::int64_t waits_amid_work() const { return waits_amid_work_; }
  std::int64_t waits_for_others() const { return waits_for_others_; }  // of a stream, for what another one recorded

 private:
  using Task = std::function<void()>;

  class LateModule final : public device::Module {
   public:
    explicit LateModule(const device::Source& source) {
      for (const std::string& name : source.kernels) kernels_[name] = {this, name, source.name};
    }
    const device::Kernel& kernel(std::string_view name) const override { return kernels_.at(std::string(name)); }
    const device::BuildReport& report() const override { return report_; }

   private:
    std::map<std::string, device::Kernel> kernels_;
    device::BuildReport report_;
  };

  class LateGraph final : public device::Graph {
   public:
    std::int64_t nodes() const override { return static_cast<std::int64_t>(tasks.size()); }
    std::vector<Task> tasks;
  };

  class LateStream final : public device::Stream {
   public:
    explicit LateStream(std::shared_ptr<LateDevice> device) : device_(std::move(device)) {}

    void copy(void* to, const void* from, std::int64_t bytes, device::Direction) override {
      const auto count = static_cast<std::size_t>(bytes);
      if (device_->owns(from)) {
        put([=] { std::memcpy(to, from, count); });
        return;
      }
      // Other host memory is read at once, as drivers do.
      const auto* const begin = static_cast<const std::byte*>(from);
      put([to, kept = std::vector<std::byte>(begin, begin + count)] { std::memcpy(to, kept.data(), kept.size()); });
    }
    void fill(void* to, std::uint8_t value, std::int64_t bytes) override {
      put([=] { std::memset(to, value, static_cast<std::size_t>(bytes)); });
    }
    void record(device::Event& event) override {
      static_cast<LateEvent&>(event).stream = this;
      static_cast<LateEvent&>(event).after = given;
    }
    void wait(device::Event& event) override {
      const LateStream* const of = static_cast<LateEvent&>(event).stream;
      if (of != nullptr && of != this) ++device_->waits_for_others_;
    }
    void synchronize() override { run(given); }
    void begin_capture() override { capture_ = std::make_unique<LateGraph>(); }
    std::unique_ptr<device::Graph> end_capture() override { return std::move(capture_); }
    void launch(device::Graph& graph) override {
      for (const Task& task : static_cast<LateGraph&>(graph).tasks) put(task);
    }

    void run(std::int64_t until) {
      for (; done < until; ++done) {
        tasks.front()();
        tasks.erase(tasks.begin());
      }
    }

    std::vector<Task> tasks;  // given and not done
    std::int64_t given = 0, done = 0;

   protected:
    void launch_raw(const device::Kernel& kernel, device::Extent3 grid, device::Extent3, const void* arguments,
                    std::size_t bytes, unsigned, device::Start, unsigned cluster) override {
      const auto* const begin = static_cast<const std::byte*>(arguments);
      const auto blocks = static_cast<int>(grid.x / std::max(cluster, 1u));
      put([device = device_, name = kernel.name, blocks, kept = std::vector<std::byte>(begin, begin + bytes)] {
        device->run(name, blocks, kept.data());
      });
    }

   private:
    void put(Task task) {
      if (capture_ != nullptr) {
        capture_->tasks.push_back(std::move(task));
      } else {
        tasks.push_back(std::move(task)), ++given;
      }
    }
    std::shared_ptr<LateDevice> device_;
    std::unique_ptr<LateGraph> capture_;
  };

  class LateEvent final : public device::Event {
   public:
    LateStream* stream = nullptr;
    std::int64_t after = 0;
  };

  bool owns(const void* at) const {
    const auto* const byte = static_cast<const std::byte*>(at);
    const auto after = blocks_.upper_bound(const_cast<std::byte*>(byte));
    if (after == blocks_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return byte < begin + bytes;
  }

  static std::uint64_t mixed(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  }
  cuda::ChosenToken said(std::uint64_t of) const {
    const std::uint64_t bits = mixed(of + 0x9e3779b97f4a7c15ULL);
    return {static_cast<int>(bits % static_cast<std::uint64_t>(vocabulary_)),
            -static_cast<float>(bits >> 40) / static_cast<float>(1 << 24)};
  }

  template <class Arguments>
  static Arguments as(const std::byte* from) {
    Arguments out;
    std::memcpy(&out, from, sizeof(out));
    return out;
  }
  void run(const std::string& kernel, int blocks, const std::byte* arguments) {
    if (kernel == "embed_packed") {
      const int* const tokens = as<cuda::PackedEmbedArguments>(arguments).tokens;
      inputs_.assign(tokens, tokens + blocks);
    } else if (kernel == "gather_rows") {
      const int* const from = as<cuda::GatherRowsArguments>(arguments).from;
      std::vector<int> gathered;
      for (int row = 0; row < blocks; ++row) gathered.push_back(inputs_.at(static_cast<std::size_t>(from[row])));
      inputs_ = std::move(gathered);
    } else if (kernel == "choose") {
      cuda::ChosenToken* const chosen = as<cuda::ChooseArguments>(arguments).chosen;
      for (int row = 0; row < blocks; ++row)
        chosen[row] = said(static_cast<std::uint64_t>(inputs_.at(static_cast<std::size_t>(row))));
    } else if (kernel == "draw") {
      const auto a = as<cuda::DrawArguments>(arguments);
      for (int row = 0; row < blocks; ++row) {
        if (a.draws[row].slope <= 0.0f) continue;
        std::uint64_t bits = 0;
        std::memcpy(&bits, &a.draws[row].uniform, sizeof(bits));
        a.chosen[row] = said(mixed(bits) + static_cast<std::uint64_t>(inputs_.at(static_cast<std::size_t>(row))));
      }
    } else if (kernel == "follow") {
      const auto a = as<cuda::FollowArguments>(arguments);
      for (int i = 0; i < a.sequences; ++i)
        if (a.from[i] >= 0) a.tokens[i] = std::max(a.chosen[a.from[i]].token, 0);
    }
  }

  int vocabulary_;
  std::map<std::byte*, std::int64_t> blocks_;
  std::vector<int> inputs_;  // of the walk that runs
  std::int64_t waits_amid_work_ = 0, waits_for_others_ = 0;
};

}  // namespace vortex::testing
