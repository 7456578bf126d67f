// What kernels that overlap share: the start of a kernel while the one before it still runs, bulk copies into shared
// memory that count down a barrier, clusters of blocks. Copies and clusters are of sm_90 and newer; on older devices
// their text is left out. Includes nothing from outside.
#pragma once

#include "device/cuda/device.cuh"

namespace vortex {

// Every block of a kernel launched early calls this before it touches what earlier work makes or reads.
__device__ inline void wait_for_earlier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// From here on the next kernel may take the places that blocks of this one leave.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

#if __CUDA_ARCH__ >= 900

// The shared memory of another block of the cluster.
__device__ inline unsigned address_in(unsigned address, unsigned rank) {
  unsigned out;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(out) : "r"(address), "r"(rank));
  return out;
}

// A barrier in shared memory: a phase ends when `arrivals` have come and all expected bytes have landed.
struct Barrier {
  unsigned address;
  __device__ explicit Barrier(const void* word) : address(shared_address(word)) {}
  __device__ static Barrier at(unsigned address) {
    Barrier out;
    out.address = address;
    return out;
  }
  __device__ void open(unsigned arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
  }
  __device__ void arrive() const { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory"); }
  __device__ void arrive_and_expect(unsigned bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes) : "memory");
  }
  __device__ void wait(unsigned parity) const {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra over;\nbra "
        "again;\nover:\n}" ::"r"(address),
        "r"(parity)
        : "memory");
  }
  // `address` may be one in another block of the cluster, or in this one as the cluster knows it.
  __device__ void arrive_in_cluster() const {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address) : "memory");
  }

 private:
  __device__ Barrier() {}
};
// Barriers opened by one thread are seen by the copy engine and by the cluster after this.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// What a thread did in shared memory comes before the copies that threads start after they have met it.
__device__ inline void publish_to_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// What is read once a step leaves the second cache before anything else.
__device__ inline unsigned long long read_once_policy() {
  unsigned long long policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// Contiguous bytes (a multiple of 16, aligned to 16) from global to shared memory; they count on `barrier`.
__device__ inline void copy_bulk(unsigned to, const void* from, unsigned bytes, Barrier barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier.address)
               : "memory");
}
__device__ inline void copy_bulk(unsigned to, const void* from, unsigned bytes, Barrier barrier,
                                 unsigned long long policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier.address), "l"(policy)
      : "memory");
}

__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
// By some lanes of a warp.
__device__ inline void cluster_wait_apart() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
template <class T>
__device__ inline T* pointer_in(T* own, unsigned rank) {
  T* out;
  asm("mapa.u64 %0, %1, %2;" : "=l"(out) : "l"(own), "r"(rank));
  return out;
}
__device__ inline float4 read_in_cluster(unsigned address) {
  float4 out;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(out.x), "=f"(out.y), "=f"(out.z), "=f"(out.w)
               : "r"(address)
               : "memory");
  return out;
}
__device__ inline void write_in_cluster(unsigned address, const float4& x) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(x.x), "f"(x.y), "f"(x.z),
               "f"(x.w)
               : "memory");
}
__device__ inline void write_in_cluster(unsigned address, float x) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(address), "f"(x) : "memory");
}

#endif

}  // namespace vortex
