// SPDX-License-Identifier: Apache-2.0
// One kernel for each function of csrc/cuda that holds PTX, so that its PTX can be read.

#include "cuda/intrinsics.cuh"
#ifdef WITH_CLUSTERS
#include "cuda/cluster.cuh"
#endif

using namespace ltlstm::cuda;

struct Values {
  uint32_t a[4], b[2], word, to, by, bytes;
  uint4 four;
  uint64_t two, time;
  float d[4], c[4];
  int count;
};

#define WRAPPER(name, statement) \
  extern "C" __global__ void name(Values* v, char* shared, const char* global) { statement; }

WRAPPER(mma_m16n8k16_bf16, mma_m16n8k16<__nv_bfloat16>(v->d, v->a, v->b, v->c))
WRAPPER(mma_m16n8k16_f16, mma_m16n8k16<__half>(v->d, v->a, v->b, v->c))
WRAPPER(ldmatrix_x4_, ldmatrix_x4(v->a, shared))
WRAPPER(ldmatrix_x2_, ldmatrix_x2(v->a, shared))
WRAPPER(ldmatrix_x4_trans_, ldmatrix_x4_trans(v->a, shared))
WRAPPER(ldmatrix_x2_trans_, ldmatrix_x2_trans(v->a, shared))
WRAPPER(cp_async_4, cp_async<4>(shared, global))
WRAPPER(cp_async_8, cp_async<8>(shared, global))
WRAPPER(cp_async_16, cp_async<16>(shared, global))
WRAPPER(cp_async_16_zeros, cp_async<16>(shared, global, v->count))
WRAPPER(cp_async_commit_, cp_async_commit())
WRAPPER(cp_async_wait_3, cp_async_wait<3>())
WRAPPER(load_acquire_, v->word = load_acquire(v->a))
WRAPPER(load_relaxed_, v->word = load_relaxed(v->a))
WRAPPER(load_relaxed_4, v->four = load_relaxed(&v->four))
WRAPPER(store_release_, store_release(v->a, v->word))
WRAPPER(store_relaxed_, store_relaxed(v->a, v->word))
WRAPPER(store_relaxed_4, store_relaxed(&v->four, v->four))
WRAPPER(add_release_, add_release(v->a, v->word))
WRAPPER(global_timer_ns_, v->time = global_timer_ns())
WRAPPER(trap_, trap())

#ifdef WITH_CLUSTERS
__device__ uint64_t* barrier(char* shared) { return reinterpret_cast<uint64_t*>(shared); }

WRAPPER(cluster_rank_, v->word = cluster_rank())
WRAPPER(cluster_size_, v->word = cluster_size())
WRAPPER(cluster_arrive_, cluster_arrive())
WRAPPER(cluster_arrive_relaxed_, cluster_arrive_relaxed())
WRAPPER(cluster_wait_, cluster_wait())
WRAPPER(map_to_rank_, v->word = map_to_rank(shared, v->bytes).address)
WRAPPER(store_cluster_, store_cluster({v->to}, v->word))
WRAPPER(load_cluster_, v->word = load_cluster({v->to}))
WRAPPER(mbarrier_init_, mbarrier_init(barrier(shared), v->word))
WRAPPER(mbarrier_inval_, mbarrier_inval(barrier(shared)))
WRAPPER(fence_mbarrier_init_, fence_mbarrier_init())
WRAPPER(mbarrier_expect_tx_, mbarrier_expect_tx(barrier(shared), v->bytes))
WRAPPER(mbarrier_arrive_, mbarrier_arrive(barrier(shared)))
WRAPPER(mbarrier_arrive_expect_tx_, mbarrier_arrive_expect_tx(barrier(shared), v->bytes))
WRAPPER(mbarrier_arrive_cluster_, mbarrier_arrive_cluster({v->by}))
WRAPPER(mbarrier_try_wait_, v->word = mbarrier_try_wait(barrier(shared), v->bytes))
WRAPPER(fence_proxy_async_, fence_proxy_async())
WRAPPER(store_async_1, store_async({v->to}, v->word, {v->by}))
WRAPPER(store_async_2, store_async({v->to}, v->two, {v->by}))
WRAPPER(store_async_4, store_async({v->to}, v->four, {v->by}))
WRAPPER(bulk_copy_, bulk_copy({v->to}, shared, v->bytes, {v->by}))
#endif
