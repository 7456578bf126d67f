// The CUDA driver's functions, found when first needed. MachineError when the driver is missing or too old.
#pragma once

#include <cuda.h>

namespace vortex::device {

// member name, function as cuda.h names it (its version suffix included)
#define VORTEX_DRIVER_FUNCTIONS(FUNCTION)                  \
  FUNCTION(init, cuInit)                                   \
  FUNCTION(driver_version, cuDriverGetVersion)             \
  FUNCTION(device_count, cuDeviceGetCount)                 \
  FUNCTION(device, cuDeviceGet)                            \
  FUNCTION(device_name, cuDeviceGetName)                   \
  FUNCTION(device_attribute, cuDeviceGetAttribute)         \
  FUNCTION(retain_context, cuDevicePrimaryCtxRetain)       \
  FUNCTION(release_context, cuDevicePrimaryCtxRelease)     \
  FUNCTION(set_context, cuCtxSetCurrent)                   \
  FUNCTION(memory_info, cuMemGetInfo)                      \
  FUNCTION(allocate, cuMemAlloc)                           \
  FUNCTION(free, cuMemFree)                                \
  FUNCTION(host_allocate, cuMemHostAlloc)                  \
  FUNCTION(host_free, cuMemFreeHost)                       \
  FUNCTION(copy, cuMemcpyAsync)                            \
  FUNCTION(fill, cuMemsetD8Async)                          \
  FUNCTION(stream_create, cuStreamCreate)                  \
  FUNCTION(stream_destroy, cuStreamDestroy)                \
  FUNCTION(stream_synchronize, cuStreamSynchronize)        \
  FUNCTION(stream_wait, cuStreamWaitEvent)                 \
  FUNCTION(begin_capture, cuStreamBeginCapture)            \
  FUNCTION(end_capture, cuStreamEndCapture)                \
  FUNCTION(event_create, cuEventCreate)                    \
  FUNCTION(event_destroy, cuEventDestroy)                  \
  FUNCTION(event_record, cuEventRecord)                    \
  FUNCTION(event_synchronize, cuEventSynchronize)          \
  FUNCTION(graph_nodes, cuGraphGetNodes)                   \
  FUNCTION(graph_destroy, cuGraphDestroy)                  \
  FUNCTION(graph_instantiate, cuGraphInstantiateWithFlags) \
  FUNCTION(graph_launch, cuGraphLaunch)                    \
  FUNCTION(graph_exec_destroy, cuGraphExecDestroy)         \
  FUNCTION(module_load, cuModuleLoadData)                  \
  FUNCTION(module_unload, cuModuleUnload)                  \
  FUNCTION(module_function, cuModuleGetFunction)           \
  FUNCTION(launch, cuLaunchKernelEx)                       \
  FUNCTION(set_function, cuFuncSetAttribute)               \
  FUNCTION(error_name, cuGetErrorName)                     \
  FUNCTION(error_text, cuGetErrorString)

struct Driver {
#define VORTEX_MEMBER(member, function) decltype(&function) member = nullptr;
  VORTEX_DRIVER_FUNCTIONS(VORTEX_MEMBER)
#undef VORTEX_MEMBER
  // Changed its signature in CUDA 12.8; the first form is in every driver.
  CUresult(CUDAAPI* event_elapsed)(float*, CUevent, CUevent) = nullptr;
};

// Loads and initialises the driver once.
const Driver& driver();

// Throws MachineError("device cuda", required, "CUDA_ERROR_…: text", …) unless `result` is success.
void check_driver(CUresult result, const char* required);

}  // namespace vortex::device
