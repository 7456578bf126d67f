// Settings of a flow: ranges, text form, and the budget they give.
#include "ir/config.h"

#include <vortex/error.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "ir/op.h"

namespace vortex::ir {

namespace {

constexpr std::int64_t kMaxPages = 1 << 24;

[[noreturn]] void fail(const std::string& where, const std::string& name, const std::string& required,
                       const std::string& came) {
  throw UserError(where, concat(name, " must be ", required), came.empty() ? "nothing" : came,
                  concat("set ", name, " to such a value"));
}

void check_range(const std::string& where, const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high) fail(where, name, concat("a whole number from ", low, " to ", high), concat(value));
}

const char* const kWhere = "flow config";

std::int64_t read_integer(const std::string& name, std::string_view text) {
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    fail(kWhere, name, "a whole number", std::string(text.substr(0, 80)));
  return value;
}

double read_number(const std::string& name, std::string_view text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    fail(kWhere, name, "a number", std::string(text.substr(0, 80)));
  return value;
}

}  // namespace

// Numbers and ranges, "0,1,5" or "0-3,7".
std::vector<std::int64_t> read_layers(const std::string& name, std::string_view text) {
  std::vector<std::int64_t> layers;
  if (text.empty() || text == "none") return layers;
  while (true) {
    std::size_t comma = text.find(',');
    const std::string_view one = text.substr(0, comma);
    const std::size_t dash = one.find('-', 1);
    const std::int64_t first = read_integer(name, one.substr(0, dash));
    const std::int64_t last = dash == std::string_view::npos ? first : read_integer(name, one.substr(dash + 1));
    if (last < first || last - first > 4095)
      fail(kWhere, name, "layers, or ranges of layers such as 0-3", std::string(one.substr(0, 80)));
    for (std::int64_t layer = first; layer <= last; ++layer) layers.push_back(layer);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

std::string print_layers(const std::vector<std::int64_t>& layers) {
  std::string out = layers.empty() ? "none" : "";
  for (std::int64_t layer : layers) out += concat(out.empty() ? "" : ",", layer);
  return out;
}

namespace {

// "5:4,7:6".
std::map<std::int64_t, std::int64_t> read_pairs(const std::string& name, std::string_view text) {
  std::map<std::int64_t, std::int64_t> pairs;
  if (text.empty() || text == "none") return pairs;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view pair = text.substr(0, comma);
    const std::size_t colon = pair.find(':');
    if (colon == std::string_view::npos)
      fail(kWhere, name, "pairs LAYER:EARLIER_LAYER such as 5:4,7:6, or how many layers in a row share a set",
           std::string(pair.substr(0, 80)));
    const std::int64_t layer = read_integer(name, pair.substr(0, colon));
    if (!pairs.emplace(layer, read_integer(name, pair.substr(colon + 1))).second)
      fail(kWhere, name, "one earlier layer for each layer", concat("layer ", layer, " twice"));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return pairs;
}

}  // namespace

const std::vector<std::string>& FlowConfig::names() {
  static const std::vector<std::string> all = {"page_size",     "budget", "budget_ratio",
                                               "sinks",         "recent", "full_attention_layers",
                                               "summary_dtype", "reuse",  "refresh_every"};
  return all;
}

bool FlowConfig::is_full(std::int64_t layer) const {
  return std::binary_search(full_attention_layers.begin(), full_attention_layers.end(), layer);
}

std::int64_t FlowConfig::source_of(std::int64_t layer) const {
  const auto found = reuse.find(layer);
  if (found != reuse.end()) return found->second;
  if (is_full(layer)) return layer;
  std::int64_t first = layer - layer % reuse_run;
  while (first < layer && is_full(first)) ++first;
  return first;
}

void FlowConfig::validate(const std::string& where) const {
  check_range(where, "page_size", page_size, 1, 4096);
  check_range(where, "budget", budget, 0, kMaxPages);
  if (!(budget_ratio >= 0.0 && budget_ratio <= 1.0))
    fail(where, "budget_ratio", "a share from 0 to 1", print_number(budget_ratio));
  check_range(where, "sinks", sinks, 0, kMaxPages);
  check_range(where, "recent", recent, 0, kMaxPages);
  for (std::size_t i = 0; i < full_attention_layers.size(); ++i) {
    check_range(where, "full_attention_layers", full_attention_layers[i], 0, 4095);
    if (i > 0 && full_attention_layers[i] <= full_attention_layers[i - 1])
      fail(where, "full_attention_layers", "ascending layer numbers",
           concat(full_attention_layers[i - 1], ", ", full_attention_layers[i]));
  }
  if (summary_dtype != DType::bf16 && summary_dtype != DType::f32)
    fail(where, "summary_dtype", "bf16 or f32", name_of(summary_dtype));
  for (const auto& [layer, source] : reuse) {
    check_range(where, "reuse", layer, 0, 4095);
    check_range(where, "reuse", source, 0, 4095);
    if (source >= layer)
      fail(where, "reuse", "the set of an earlier layer", concat("layer ", layer, " takes that of layer ", source));
    for (const std::int64_t full : {layer, source})
      if (is_full(full))
        fail(where, "reuse", "layers that choose pages",
             concat("layer ", full, ", which is one of full_attention_layers"));
    if (const auto other = reuse.find(source); other != reuse.end())
      fail(where, "reuse", "the set of a layer that chooses its own",
           concat("layer ", layer, " takes that of layer ", source, ", which takes that of layer ", other->second));
  }
  check_range(where, "reuse", reuse_run, 1, 4096);
  check_range(where, "refresh_every", refresh_every, 1, 1 << 20);
}

void FlowConfig::set(const std::string& name, const std::string& value) {
  if (name == "page_size") {
    page_size = read_integer(name, value);
  } else if (name == "budget") {
    budget = read_integer(name, value);
  } else if (name == "budget_ratio") {
    budget_ratio = read_number(name, value);
  } else if (name == "sinks") {
    sinks = read_integer(name, value);
  } else if (name == "recent") {
    recent = read_integer(name, value);
  } else if (name == "full_attention_layers") {
    full_attention_layers = read_layers(name, value);
  } else if (name == "summary_dtype") {
    if (value != "bf16" && value != "f32") fail(kWhere, name, "bf16 or f32", value.substr(0, 80));
    summary_dtype = value == "bf16" ? DType::bf16 : DType::f32;
  } else if (name == "reuse") {
    const bool run = !value.empty() && value.find_first_not_of("0123456789") == std::string::npos;
    reuse_run = run ? read_integer(name, value) : 1;
    reuse = run ? std::map<std::int64_t, std::int64_t>() : read_pairs(name, value);
  } else if (name == "refresh_every") {
    refresh_every = read_integer(name, value);
  } else {
    std::string near = nearest_name(name, names());
    throw UserError(kWhere, concat("a setting of a flow: ", join(names(), ", ")), concat('"', name.substr(0, 80), '"'),
                    near.empty() ? "choose one of them" : concat("did you mean \"", near, "\"?"));
  }
}

std::string FlowConfig::print() const {
  std::string pairs = reuse_run > 1 ? concat(" reuse=", reuse_run) : "";
  for (const auto& [layer, source] : reuse) pairs += concat(pairs.empty() ? " reuse=" : ",", layer, ":", source);
  return concat("page_size=", page_size, " budget=", budget, " budget_ratio=", budget_ratio, " sinks=", sinks,
                " recent=", recent, " full_attention_layers=", print_layers(full_attention_layers),
                " summary_dtype=", name_of(summary_dtype), pairs,
                refresh_every > 1 ? concat(" refresh_every=", refresh_every) : "");
}

std::int64_t pinned_of(const FlowConfig& config, std::int64_t pages) {
  return std::min(pages, config.sinks + std::max<std::int64_t>(config.recent, 1));
}

std::int64_t budget_of(const FlowConfig& config, std::int64_t pages) {
  auto share = static_cast<std::int64_t>(std::floor(config.budget_ratio * static_cast<double>(pages)));
  return std::clamp(std::max(config.budget, share), pinned_of(config, pages), pages);
}

RowPages row_pages(const FlowConfig& config, bool has_score, std::int64_t pages) {
  return row_pages(config, has_score, pages, budget_of(config, pages));
}

RowPages row_pages(const FlowConfig& config, bool has_score, std::int64_t pages, std::int64_t wanted) {
  const std::int64_t pinned = pinned_of(config, pages);
  RowPages out;
  out.pages = pages;
  out.attended = std::clamp(wanted, pinned, pages);
  if (!has_score && out.attended < pages) out.attended = pinned;
  out.candidates = pages - pinned;
  out.first = std::min(config.sinks, pages);
  out.chosen = out.attended - pinned;
  return out;
}

}  // namespace vortex::ir
