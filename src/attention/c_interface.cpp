// include/vortex/attention.h on the CPU: checks what comes, then calls the same plans that a step uses.
#include <vortex/attention.h>

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "attention/cpu/append.h"
#include "attention/cpu/attend.h"
#include "attention/cpu/score.h"
#include "attention/flow_handle.h"
#include "base/text.h"

using namespace vortex;
using namespace vortex::attention;

struct vortex_context {
  explicit vortex_context(int threads) : pool(threads) {}
  ThreadPool pool;
  AttendPlan attend;
  ScorePlan score;
  Summarizer summarizer;
  std::vector<Slice> slices;
  std::vector<AttendRow> attend_rows;
  std::vector<ScoreRow> score_rows;
  std::vector<FullPage> pages;
  std::vector<FieldBlock> blocks;
  std::vector<std::int32_t> summary_pages;
};

namespace {

thread_local std::string last_error;

// Sound arguments that have no kernel here.
class Unsupported : public UserError {
  using UserError::UserError;
};

template <class Body>
vortex_status guard(Body&& body) {
  try {
    body();
    return VORTEX_OK;
  } catch (const Unsupported& error) {
    last_error = error.what();
    return VORTEX_UNSUPPORTED;
  } catch (const UserError& error) {
    last_error = error.what();
    return VORTEX_BAD_ARGUMENT;
  } catch (const MachineError& error) {
    last_error = error.what();
    return VORTEX_MACHINE_ERROR;
  } catch (const std::bad_alloc&) {
    last_error = "[attention] memory for the call; the system gave none; use smaller batches";
    return VORTEX_MACHINE_ERROR;
  } catch (const std::exception& error) {
    last_error = error.what();
    return VORTEX_INTERNAL_ERROR;
  }
}

[[noreturn]] void refuse(const char* where, std::string required, std::string came,
                         const char* todo = "correct the argument") {
  throw UserError(where, std::move(required), std::move(came), todo);
}

void require_pointer(const char* where, const char* name, const void* pointer) {
  if (!pointer) refuse(where, concat(name, " points to memory"), "a null pointer");
}

Geometry read_geometry(const char* where, const vortex_geometry* from) {
  require_pointer(where, "geometry", from);
  auto range = [&](const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value < low || value > high)
      refuse(where, concat(name, " is from ", low, " to ", high), concat(name, " ", value));
  };
  range("kv_heads", from->kv_heads, 1, 4096);
  range("group", from->group, 1, 128);
  range("head_dim", from->head_dim, 2, 1024);
  range("page_size", from->page_size, 1, 4096);
  range("value_dim", from->value_dim, 0, 1024);
  range("values_in_keys", from->values_in_keys, 0, 1);
  if (from->head_dim % 2 != 0) refuse(where, "head_dim is even", concat("head_dim ", from->head_dim));
  if (from->value_dim % 2 != 0) refuse(where, "value_dim is even", concat("value_dim ", from->value_dim));
  if (from->values_in_keys && from->value_dim > from->head_dim)
    refuse(where, concat("values that lie in keys of ", from->head_dim, " channels"),
           concat("value_dim ", from->value_dim));
  return {1,
          from->kv_heads,
          from->group,
          from->head_dim,
          from->page_size,
          from->scale,
          from->value_dim,
          from->values_in_keys != 0};
}

// Where K and V lie; their type goes into the geometry.
KvView read_kv(const char* where, Geometry& geometry, const vortex_kv* from) {
  require_pointer(where, "kv", from);
  if (from->dtype != VORTEX_BFLOAT16 && from->dtype != VORTEX_INT8)
    throw Unsupported(where, "KV in bfloat16 or int8", concat("dtype ", static_cast<int>(from->dtype)),
                      "store K and V as one of these: the CPU reads no other type");
  const bool integers = from->dtype == VORTEX_INT8;
  require_pointer(where, "kv.k.base", from->k.base);
  if (!geometry.values_in_keys) require_pointer(where, "kv.v.base", from->v.base);
  if (integers) {
    geometry.kv_type = KvType::int8;
    require_pointer(where, "kv.k_scales.base", from->k_scales.base);
    if (!geometry.values_in_keys) require_pointer(where, "kv.v_scales.base", from->v_scales.base);
  }
  auto plane = [&](const vortex_plane& p, const vortex_scales& scales) {
    Plane out{p.base, p.page_stride, p.head_stride, p.token_stride};
    if (integers) {
      out.scales = scales.base;
      out.scale_page_stride = scales.page_stride;
      out.scale_head_stride = scales.head_stride;
      return out;
    }
    // Channels are read in pairs.
    const bool aligned = reinterpret_cast<std::uintptr_t>(p.base) % 4 == 0;
    if (!aligned || p.page_stride % 2 != 0 || p.head_stride % 2 != 0 || p.token_stride % 2 != 0)
      refuse(
          where, "K and V at even strides from a base at a multiple of 4 bytes",
          concat("strides ", p.page_stride, ", ", p.head_stride, ", ", p.token_stride, aligned ? "" : ", an odd base"));
    return out;
  };
  const Plane k = plane(from->k, from->k_scales);
  return {k, geometry.values_in_keys ? k : plane(from->v, from->v_scales)};
}

// The batch as slices; first_token counts through the new tokens of all sequences.
void read_batch(const char* where, const Geometry& geometry, const vortex_batch* batch, std::vector<Slice>& slices) {
  require_pointer(where, "batch", batch);
  if (batch->sequences < 0) refuse(where, "sequences is not negative", concat("sequences ", batch->sequences));
  slices.clear();
  if (batch->sequences == 0) return;
  require_pointer(where, "batch.page_tables", batch->page_tables);
  require_pointer(where, "batch.tokens", batch->tokens);
  std::int32_t first = 0;
  for (std::int32_t s = 0; s < batch->sequences; ++s) {
    const std::int32_t tokens = batch->tokens[s], fresh = batch->new_tokens ? batch->new_tokens[s] : 1;
    if (fresh < 1 || tokens < fresh)
      refuse(where, "each sequence has at least one new token and holds its new tokens",
             concat("sequence ", s, " holds ", tokens, " tokens, ", fresh, " of them new"));
    const std::int64_t pages = (static_cast<std::int64_t>(tokens) + geometry.page_size - 1) / geometry.page_size;
    if (pages > batch->page_table_stride)
      refuse(where, "page tables hold every token of their sequence",
             concat("sequence ", s, " of ", tokens, " tokens needs ", pages, " pages, page_table_stride ",
                    batch->page_table_stride));
    Slice slice;
    slice.first_token = first;
    slice.token_count = fresh;
    slice.context = tokens - fresh;
    slice.page_table = batch->page_tables + s * batch->page_table_stride;
    slice.page_count = static_cast<std::int32_t>(pages);
    slice.step = batch->steps ? batch->steps[s] : 0;
    for (std::int64_t p = 0; p < pages; ++p)
      if (slice.page_table[p] < 0)
        refuse(where, "physical pages are not negative",
               concat("page ", p, " of sequence ", s, " is ", slice.page_table[p]));
    slices.push_back(slice);
    if (fresh > std::numeric_limits<std::int32_t>::max() - first)
      refuse(where, "fewer than 2^31 new tokens in a batch", concat("more, at sequence ", s), "use smaller batches");
    first += fresh;
  }
}

void check_flow(const char* where, const Geometry& geometry, const vortex_flow* flow) {
  require_pointer(where, "flow", flow);
  const ir::Geometry& made = flow->flow->plan().geometry;
  if (made.head_dim != geometry.head_dim || made.value_channels() != geometry.value_channels() ||
      made.group != geometry.group)
    refuse(
        where,
        concat("head_dim, value_dim and group of the flow, ", made.head_dim, ", ", made.value_channels(), " and ",
               made.group),
        concat("head_dim ", geometry.head_dim, ", value_dim ", geometry.value_channels(), ", group ", geometry.group),
        "compile the flow for this geometry");
  if (const auto parameters = ir::parameters_of(flow->flow->plan().program); !parameters.empty())
    throw Unsupported(where, "a flow without learned parameters",
                      concat("the parameter \"", ir::text_of(parameters[0]->attributes, "name"), "\""),
                      "leave it out of the flow, or use Vortex's own engine");
  if (made.page_size % geometry.page_size != 0)
    refuse(where, concat("a page_size that divides the flow's pages of ", made.page_size, " tokens"),
           concat("page_size ", geometry.page_size), "use smaller physical pages or a flow with other pages");
}

bool has_score(const vortex_flow& flow) { return flow.flow->plan().program.chooses(); }

// A place where rows of a flow are asked for: the scale of the softmax and the layer.
struct Place {
  std::int64_t layer = 0, layers = 1;
  double scale = 1.0;
};

ir::RowPages row_pages_of(const vortex_flow& flow, std::int64_t tokens, std::int64_t step, const Place& place) {
  return flow.flow->rows()(flow.config, {.geometry = {.page_size = flow.config.page_size},
                                         .tokens = tokens,
                                         .step = step,
                                         .layer = place.layer,
                                         .layers = place.layers,
                                         .scale = place.scale});
}

void read_fields(const char* where, const vortex_flow* flow, const vortex_field* fields,
                 std::vector<FieldBlock>& blocks) {
  blocks.clear();
  const auto& layouts = flow->flow->fields();
  if (!layouts.empty()) require_pointer(where, "fields", fields);
  for (std::size_t f = 0; f < layouts.size(); ++f) {
    require_pointer(where, "fields[].base", fields[f].base);
    blocks.push_back({static_cast<std::byte*>(fields[f].base), fields[f].page_stride, fields[f].head_stride,
                      layouts[f].dtype == ir::DType::f32 ? 4 : 2});
  }
}

void require_single_tokens(const char* where, const std::vector<Slice>& slices) {
  for (std::size_t s = 0; s < slices.size(); ++s)
    if (slices[s].token_count != 1)
      refuse(where, "one new token a sequence where pages are selected",
             concat("sequence ", s, " has ", slices[s].token_count), "attend prompts without lists");
}

}  // namespace

extern "C" {

const char* vortex_last_error(void) { return last_error.c_str(); }

vortex_status vortex_create_context(std::int32_t threads, vortex_context** context) {
  return guard([&] {
    require_pointer("vortex_create_context", "context", context);
    *context = nullptr;
    *context = new vortex_context(threads);
  });
}

void vortex_destroy_context(vortex_context* context) { delete context; }

std::int32_t vortex_flow_fields(const vortex_flow* flow) {
  return flow ? static_cast<std::int32_t>(flow->flow->fields().size()) : 0;
}

std::int64_t vortex_flow_field_elements(const vortex_flow* flow, std::int32_t field) {
  if (field < 0 || field >= vortex_flow_fields(flow)) return 0;
  return flow->flow->fields()[static_cast<std::size_t>(field)].elements;
}

vortex_dtype vortex_flow_field_dtype(const vortex_flow* flow, std::int32_t field) {
  if (field < 0 || field >= vortex_flow_fields(flow)) return VORTEX_BFLOAT16;
  return flow->flow->fields()[static_cast<std::size_t>(field)].dtype == ir::DType::f32 ? VORTEX_FLOAT32
                                                                                       : VORTEX_BFLOAT16;
}

std::int64_t vortex_flow_budget(const vortex_flow* flow, std::int64_t tokens) {
  if (!flow || tokens <= 0) return 0;
  // A budget that the flow computes may differ by step and layer, a set by row: room for all pages.
  const ir::RowPages row = row_pages_of(*flow, tokens, 0, {});
  return flow->flow->rows().computed() || !flow->flow->is_counted() ? row.pages : row.attended;
}

std::size_t vortex_workspace_bytes(const vortex_context*, const vortex_geometry*, const vortex_flow*, std::int32_t,
                                   std::int64_t) {
  return 0;
}

vortex_status vortex_append(vortex_context* context, const vortex_geometry* geometry, const vortex_kv* kv,
                            const vortex_batch* batch, const float* k, const float* v, void*) {
  return guard([&] {
    const char* where = "vortex_append";
    require_pointer(where, "context", context);
    Geometry shape = read_geometry(where, geometry);
    const KvView view = read_kv(where, shape, kv);
    read_batch(where, shape, batch, context->slices);
    if (context->slices.empty()) return;
    require_pointer(where, "k", k);
    if (!shape.values_in_keys) require_pointer(where, "v", v);
    append_tokens(shape, view, context->slices, k, v, context->pool);
  });
}

vortex_status vortex_summarize(vortex_context* context, const vortex_geometry* geometry, const vortex_kv* kv,
                               const vortex_flow* flow, const vortex_field* fields, const vortex_batch* batch, void*) {
  return guard([&] {
    const char* where = "vortex_summarize";
    require_pointer(where, "context", context);
    Geometry shape = read_geometry(where, geometry);
    const KvView view = read_kv(where, shape, kv);
    check_flow(where, shape, flow);
    read_fields(where, flow, fields, context->blocks);
    read_batch(where, shape, batch, context->slices);
    if (context->blocks.empty()) return;
    context->pages.clear();
    const std::int64_t page_size = flow->config.page_size, merged = page_size / shape.page_size;
    for (const Slice& slice : context->slices)
      for (std::int64_t page = slice.context / page_size; page < (slice.context + slice.token_count) / page_size;
           ++page)
        context->pages.push_back({flow->flow.get(), context->blocks.data(), slice.page_table + page * merged,
                                  static_cast<std::int32_t>(page_size)});
    context->summarizer.run(shape, view, context->pages, context->pool);
  });
}

vortex_status vortex_select(vortex_context* context, const vortex_geometry* geometry, const vortex_flow* flow,
                            const vortex_field* fields, const vortex_batch* batch, const float* q, std::int32_t layer,
                            std::int32_t layers, const vortex_lists* lists, void*, std::size_t, void*) {
  return guard([&] {
    const char* where = "vortex_select";
    require_pointer(where, "context", context);
    const Geometry shape = read_geometry(where, geometry);
    check_flow(where, shape, flow);
    read_fields(where, flow, fields, context->blocks);
    read_batch(where, shape, batch, context->slices);
    require_single_tokens(where, context->slices);
    if (layers < 1 || layer < 0 || layer >= layers)
      refuse(where, "a layer below layers", concat("layer ", layer, " of ", layers));
    if (context->slices.empty()) return;
    require_pointer(where, "q", q);
    require_pointer(where, "lists", lists);
    require_pointer(where, "lists.pages", lists->pages);
    require_pointer(where, "lists.counts", lists->counts);
    if (!flow->flow->plan().others.empty())
      throw Unsupported(where, "one flow for all layers", "a flow that names others for some layers",
                        "compile each for itself, and call vortex_select with that of the layer");
    if (!flow->flow->states().empty())
      throw Unsupported(where, "a flow without state", concat("the state \"", flow->flow->states()[0].name, "\""),
                        "leave it out of the flow, or use Vortex's own engine");
    if (flow->config.reuses() || flow->config.refresh_every > 1)
      throw Unsupported(where, "a flow that chooses in each layer and step",
                        flow->config.reuses() ? "reuse" : concat("refresh_every ", flow->config.refresh_every),
                        "leave it out of the flow, and call vortex_select only where lists are to change: they are "
                        "the caller's");
    const std::int64_t page_size = flow->config.page_size, merged = page_size / shape.page_size;
    if (lists->page_size != page_size)
      refuse(where, concat("lists of the flow's pages of ", page_size, " tokens"),
             concat("lists.page_size ", lists->page_size));
    context->score_rows.clear();
    context->summary_pages.clear();
    const bool scored = has_score(*flow);
    const Place place{layer, layers, shape.scale};
    std::int64_t homes = 0;
    for (std::size_t s = 0; s < context->slices.size(); ++s) {
      const ir::RowPages pages = row_pages_of(*flow, context->slices[s].context + 1, context->slices[s].step, place);
      if (!flow->flow->groups().empty())
        throw Unsupported(where, "a flow that remembers pages", "groups of pages, which vortex_summarize does not make",
                          "leave page.group out of the flow, or use Vortex's own engine");
      if (flow->flow->rest_floats() > 0 && pages.selects())
        throw Unsupported(where, "a flow without a rest", "a rest, which vortex_attend does not take",
                          "leave `rest` out of the flow, or use Vortex's own engine");
      const std::int64_t room = flow->flow->is_counted() ? pages.attended : pages.pages;
      if (room > lists->stride)
        refuse(where, "a stride of the lists that holds every budget (vortex_flow_budget)",
               concat("sequence ", s, " attends ", room, " pages, stride ", lists->stride));
      if (scored && pages.selects()) homes += pages.candidates;
    }
    context->summary_pages.reserve(static_cast<std::size_t>(homes));  // rows keep pointers into it
    for (std::size_t s = 0; s < context->slices.size(); ++s) {
      const Slice& slice = context->slices[s];
      const std::int64_t tokens = slice.context + 1;
      const ir::RowPages pages = row_pages_of(*flow, tokens, slice.step, place);
      ScoreRow row;
      row.flow = flow->flow.get();
      row.fields = context->blocks.data();
      row.query = slice.first_token;
      row.pages = static_cast<std::int32_t>(pages.pages);
      row.tokens = tokens;
      row.step = slice.step;
      row.first = static_cast<std::int32_t>(pages.first);
      if (!pages.selects()) {
        row.first = row.pages;  // all pages are listed without scoring
      } else {
        row.candidates = static_cast<std::int32_t>(pages.candidates);
        row.chosen = static_cast<std::int32_t>(pages.chosen);
        if (scored) {
          row.summary_pages = context->summary_pages.data() + context->summary_pages.size();
          for (std::int64_t i = 0; i < row.candidates; ++i)
            context->summary_pages.push_back(slice.page_table[(row.first + i + 1) * merged - 1]);
        }
      }
      for (std::int32_t head = 0; head < shape.kv_heads; ++head) {
        const std::int64_t number = static_cast<std::int64_t>(s) * shape.kv_heads + head;
        row.kv_head = head;
        row.list = lists->pages + number * lists->stride;
        lists->counts[number] = row.list_count();
        row.count = flow->flow->is_counted() ? nullptr : &lists->counts[number];
        context->score_rows.push_back(row);
      }
    }
    double busy[2] = {0, 0};
    context->score.make(shape, context->score_rows, context->pool.threads());
    context->score.run(layer, layers, q, context->pool, busy);
  });
}

vortex_status vortex_attend(vortex_context* context, const vortex_geometry* geometry, const vortex_kv* kv,
                            const vortex_batch* batch, const vortex_lists* lists, const float* q, float* out, void*,
                            std::size_t, void*) {
  return guard([&] {
    const char* where = "vortex_attend";
    require_pointer(where, "context", context);
    Geometry shape = read_geometry(where, geometry);
    const KvView view = read_kv(where, shape, kv);
    read_batch(where, shape, batch, context->slices);
    if (context->slices.empty()) return;
    require_pointer(where, "q", q);
    require_pointer(where, "out", out);
    if (lists) {
      require_single_tokens(where, context->slices);
      require_pointer(where, "lists.pages", lists->pages);
      require_pointer(where, "lists.counts", lists->counts);
      if (lists->page_size < 1 || lists->page_size % shape.page_size != 0)
        refuse(where, concat("listed pages that are a multiple of the physical ", shape.page_size, " tokens"),
               concat("lists.page_size ", lists->page_size));
    }
    context->attend_rows.clear();
    for (std::size_t s = 0; s < context->slices.size(); ++s) {
      const Slice& slice = context->slices[s];
      AttendRow row;
      row.first_query = slice.first_token;
      row.queries = slice.token_count;
      row.tokens = slice.context + slice.token_count;
      row.page_table = slice.page_table;
      for (std::int32_t head = 0; head < shape.kv_heads; ++head) {
        row.kv_head = head;
        if (lists) {
          const std::int64_t number = static_cast<std::int64_t>(s) * shape.kv_heads + head;
          const std::int64_t pages = (static_cast<std::int64_t>(row.tokens) + lists->page_size - 1) / lists->page_size;
          row.list = lists->pages + number * lists->stride;
          row.list_count = lists->counts[number];
          row.list_page_size = lists->page_size;
          if (row.list_count < 1 || row.list_count > lists->stride || row.list_count > pages)
            refuse(where, concat("from 1 to ", std::min(pages, lists->stride), " listed pages a row"),
                   concat("row ", number, " lists ", row.list_count));
          for (std::int32_t i = 0; i < row.list_count; ++i)
            if (row.list[i] < 0 || row.list[i] >= pages || (i > 0 && row.list[i] <= row.list[i - 1]))
              refuse(where, concat("ascending pages below ", pages),
                     concat("row ", number, " lists ", row.list[i], " at ", i));
          // Only the sequence's last page can be unfinished.
          const std::int64_t absent =
              row.list[row.list_count - 1] == pages - 1 ? pages * lists->page_size - row.tokens : 0;
          row.list_tokens =
              static_cast<std::int32_t>(static_cast<std::int64_t>(row.list_count) * lists->page_size - absent);
        }
        context->attend_rows.push_back(row);
      }
    }
    double busy[2] = {0, 0};
    context->attend.make(shape, context->attend_rows, context->pool.threads());
    context->attend.run(view, q, out, context->pool, busy);
  });
}

}  // extern "C"
