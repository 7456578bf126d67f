/* The decode chain of one layer behind a C interface: append, summarize, select, attend. Its callers are plugins, tests
 * and other engines; it knows no pool and no model. Every call checks its arguments, changes nothing when they are
 * wrong, and returns a status; vortex_last_error() has the words. Strides count elements. A row is (sequence, KV head),
 * its number is sequence * kv_heads + head. */
#ifndef VORTEX_ATTENTION_H_
#define VORTEX_ATTENTION_H_

#include <stddef.h>
#include <stdint.h>
#include <vortex/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum vortex_status {
  VORTEX_OK = 0,
  VORTEX_BAD_ARGUMENT = 1,
  VORTEX_UNSUPPORTED = 2,   /* sound arguments that this device has no kernel for */
  VORTEX_MACHINE_ERROR = 3, /* memory, device */
  VORTEX_INTERNAL_ERROR = 4
} vortex_status;

/* Words for the last call of this thread that did not return VORTEX_OK; "" when there was none. */
VORTEX_API const char* vortex_last_error(void);

typedef enum vortex_dtype { VORTEX_BFLOAT16 = 0, VORTEX_FLOAT32 = 1, VORTEX_INT8 = 2, VORTEX_FP8 = 3 } vortex_dtype;

typedef struct vortex_geometry {
  int32_t kv_heads;
  int32_t group;     /* query heads that share a KV head, 1 to 128 */
  int32_t head_dim;  /* channels of q and of a key */
  int32_t page_size; /* tokens of a physical page */
  float scale;       /* logit = scale * q.k */
  int32_t value_dim; /* channels of a value and of what a query head gets; 0: head_dim */
  /* 1: a value is the first value_dim channels of its key (MLA: head_dim 576, value_dim 512, one KV head). One vector
   * is stored a token; kv.v, and v of vortex_append, are not read. */
  int32_t values_in_keys;
} vortex_geometry;

/* Channels of (physical page p, head h, token t) begin at base + p*page_stride + h*head_stride + t*token_stride: a base
 * at a multiple of 4 bytes, even strides. */
typedef struct vortex_plane {
  void* base;
  int64_t page_stride, head_stride, token_stride;
} vortex_plane;

/* KV in bytes: the scale of (physical page p, head h, token t) is base[p*page_stride + h*head_stride + t]. */
typedef struct vortex_scales {
  float* base;
  int64_t page_stride, head_stride;
} vortex_scales;

typedef struct vortex_kv {
  /* bfloat16; or int8: a token's channels of one head are integers from -127 to 127 times its scale. fp8 (e4m3 times a
   * scale) is a device's: the functions below refuse it. */
  vortex_dtype dtype;
  vortex_plane k, v;
  vortex_scales k_scales, v_scales; /* int8 and fp8 only; with values_in_keys v_scales is not read */
} vortex_kv;

typedef struct vortex_batch {
  int32_t sequences;
  const int32_t* page_tables; /* [sequences, page_table_stride] physical page of each logical page */
  int64_t page_table_stride;
  const int32_t* tokens;     /* [sequences] tokens of the sequence, those of this step included */
  const int32_t* new_tokens; /* [sequences] how many of them are of this step; null: one each */
  const int64_t* steps;      /* [sequences] decode steps made so far; null: zeros */
} vortex_batch;

/* Ascending page lists, one a row. */
typedef struct vortex_lists {
  int32_t page_size; /* tokens of a listed page, a multiple of the physical page */
  int32_t* pages;    /* [sequences * kv_heads, stride] logical pages */
  int64_t stride;
  int32_t* counts; /* [sequences * kv_heads] */
} vortex_lists;

/* One summary field of one layer: elements of (physical page p, head h) begin at base + p*page_stride + h*head_stride.
 */
typedef struct vortex_field {
  void* base;
  int64_t page_stride, head_stride;
} vortex_field;

typedef struct vortex_context vortex_context; /* worker threads and scratch, or a device; used by one call at a time */
typedef struct vortex_flow vortex_flow; /* a flow compiled for one geometry; src/attention/flow_handle.h makes one */

/* threads 0: one for each core. */
VORTEX_API vortex_status vortex_create_context(int32_t threads, vortex_context** context);
VORTEX_API void vortex_destroy_context(vortex_context* context);

/* Summary fields of a flow, and the elements and type of one. */
VORTEX_API int32_t vortex_flow_fields(const vortex_flow* flow);
VORTEX_API int64_t vortex_flow_field_elements(const vortex_flow* flow, int32_t field);
VORTEX_API vortex_dtype vortex_flow_field_dtype(const vortex_flow* flow, int32_t field);
/* Pages a row of so many tokens attends under the flow at most: the least stride of its lists. */
VORTEX_API int64_t vortex_flow_budget(const vortex_flow* flow, int64_t tokens);

/* Bytes of workspace that vortex_select and vortex_attend want for such a batch. The CPU keeps its own: 0. */
VORTEX_API size_t vortex_workspace_bytes(const vortex_context* context, const vortex_geometry* geometry,
                                         const vortex_flow* flow, int32_t sequences, int64_t longest);

/* `stream` is a device's queue; the CPU ignores it and has finished when a call returns. q, k, v and out are float32.
 */

/* Stores k [new tokens of all sequences, kv_heads, head_dim] and v [.., kv_heads, value_dim] as the newest tokens. */
VORTEX_API vortex_status vortex_append(vortex_context* context, const vortex_geometry* geometry, const vortex_kv* kv,
                                       const vortex_batch* batch, const float* k, const float* v, void* stream);

/* Summarizes the flow's pages that the new tokens finished, into fields [vortex_flow_fields]. */
VORTEX_API vortex_status vortex_summarize(vortex_context* context, const vortex_geometry* geometry, const vortex_kv* kv,
                                          const vortex_flow* flow, const vortex_field* fields,
                                          const vortex_batch* batch, void* stream);

/* Scores the candidates of each row by q [sequences, kv_heads * group, head_dim] and fills the lists. */
VORTEX_API vortex_status vortex_select(vortex_context* context, const vortex_geometry* geometry,
                                       const vortex_flow* flow, const vortex_field* fields, const vortex_batch* batch,
                                       const float* q, int32_t layer, int32_t layers, const vortex_lists* lists,
                                       void* workspace, size_t workspace_bytes, void* stream);

/* Attends the new tokens: q [new tokens of all sequences, kv_heads * group, head_dim], out [.., value_dim]; out may be
 * q where these are equal. Causal. With lists each sequence has one new token, which attends the listed pages; null:
 * all pages. */
VORTEX_API vortex_status vortex_attend(vortex_context* context, const vortex_geometry* geometry, const vortex_kv* kv,
                                       const vortex_batch* batch, const vortex_lists* lists, const float* q, float* out,
                                       void* workspace, size_t workspace_bytes, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* VORTEX_ATTENTION_H_ */
