// SPDX-License-Identifier: Apache-2.0
// The product of a step: the block's rows of weights times what enters the step.
//
// The weights lie in shared memory for the whole time loop, as rows of K, or in part in registers.
// What enters is a matrix of `columns` rows of K elements, in shared memory or in L2. Half types go
// through the tensor cores and are summed in float; float stays exact, by fused multiply-adds over
// the same tiles.
#pragma once

#include "cuda/tile.cuh"

namespace ltlstm::cuda {

// Loads of 16 bytes of what enters a step; kAhead of them are under way before the first is used.
struct FromShared {
  static constexpr int kAhead = 1;
  __device__ __forceinline__ static uint4 load(const void* p) {
    return *static_cast<const uint4*>(p);
  }
};
// Past L1, which may hold what lay there two steps ago.
struct FromGlobal {
  static constexpr int kAhead = 8;  // a trip to L2 takes as long as 30 matrix instructions
  __device__ __forceinline__ static uint4 load(const void* p) {
    return __ldcg(static_cast<const uint4*>(p));
  }
};

// What a lane gets of one piece: 2 * kRowTiles rows, rows g and g + 8 of each row tile.
template <int kRowTiles>
struct alignas(8 * kRowTiles) Values {
  float v[2 * kRowTiles];
};

// A part is kRowTiles tiles of 16 rows. Of its slice of K a warp holds the first kHeld blocks of
// its part in registers; the rows in shared memory have what follows them, slice by slice.
template <class scalar, int kColumnTiles, int kRowTiles, int kHeld>
class Product {
  static_assert(kHeld == 0 || sizeof(scalar) == 2, "only half types are held");

  // What a lane holds of a part in a block of K: 8 elements of rows g and g + 8 of each row tile.
  struct Fragment {
    uint4 of[kRowTiles][2];
  };

 public:
  static constexpr int kPartRows = 16 * kRowTiles;
  // As the matrix instruction lays them out: 0, 1 row g, 2, 3 row g + 8; columns 2q and 2q + 1.
  struct Sums {
    float of[kRowTiles][kColumnTiles][4];
  };

  LTLSTM_INLINE int shared_elements(int parts, int K, int splits) {
    return parts * kPartRows * row_of(K, splits);
  }

  __device__ __forceinline__ Product(SharedArrays& arrays, const WarpPlace& at, int parts, int K)
      : slice_(slice_of(K, at.splits)),
        kept_(kept_of(K, at.splits)),
        rows_(parts * kPartRows),
        row_(row_of(K, at.splits)),
        weights_(arrays.take<scalar>(shared_elements(parts, K, at.splits))) {}

  // value(row, k) for all rows of the block and all k, the padding included. kAlongRows: a row's
  // elements lie together in global memory, else a column's.
  template <bool kAlongRows, class Value>
  __device__ __forceinline__ void load(const WarpPlace& at, const Value& value) {
    if constexpr (kHeld == 0) {
      fill<kAlongRows>(1, 0, row_, value);
    } else {
#pragma unroll
      for (int block = 0; block < kHeld; ++block) {
        fill<kAlongRows>(at.splits, block * kBlockK, kBlockK, value);
        __syncthreads();
        held_[block] = fragment(lane_row(at) + at.split * kept_ + 8 * at.q);
        __syncthreads();
      }
      fill<kAlongRows>(at.splits, kHeld * kBlockK, kept_, value);
    }
  }

  // Adds this warp's products over the slice [first, last) of K.
  template <class From>
  __device__ __forceinline__ void add(Sums& sums, const WarpPlace& at, const scalar* entering,
                                      int stride, int first, int last) const {
    const scalar* weights = lane_row(at);
    if constexpr (sizeof(scalar) == 2)
      add_tiles<From>(sums, weights + (kHeld == 0 ? first : at.split * kept_) + 8 * at.q,
                      entering + at.g * stride + 8 * at.q, stride, first, last);
    else
      add_floats<From>(sums, weights, entering + 2 * at.q * stride, stride, first, last);
  }

 private:
  // Elements of a whole slice of K, and of what of it lies in shared memory: one block at least,
  // through which the held ones come in.
  LTLSTM_INLINE int slice_of(int K, int splits) {
    const int blocks = (K + kBlockK - 1) / kBlockK;
    return (blocks + splits - 1) / splits * kBlockK;
  }
  LTLSTM_INLINE int kept_of(int K, int splits) {
    const int kept = slice_of(K, splits) - kHeld * kBlockK;
    return kept > kBlockK || kHeld == 0 ? kept : kBlockK;
  }
  LTLSTM_INLINE int row_of(int K, int splits) {
    return padded_row<scalar>(kHeld == 0 ? K : splits * kept_of(K, splits));
  }

  // Elements [first, first + width) of each slice, side by side in a row. Beyond the end of a slice
  // are those of the next: they are never read.
  template <bool kAlongRows, class Value>
  __device__ __forceinline__ void fill(int slices, int first, int width, const Value& value) {
    const int length = slices * width, count = rows_ * length;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
      const int row = kAlongRows ? i / length : i % rows_, j = kAlongRows ? i % length : i / rows_;
      const int slice = kHeld == 0 ? 0 : j / width, k = j - slice * width;
      weights_[row * row_ + slice * kept_ + k] = value(row, slice * slice_ + first + k);
    }
  }

  __device__ __forceinline__ const scalar* lane_row(const WarpPlace& at) const {
    return weights_ + (at.part * kPartRows + at.g) * row_;
  }

  __device__ __forceinline__ Fragment fragment(const scalar* weights) const {
    Fragment found;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        found.of[m][half] = FromShared::load(weights + (16 * m + 8 * half) * row_);
    return found;
  }

  // Lane 4g + q loads elements 8q .. 8q + 7 of a block of K for its rows and column g. The
  // instruction wants other k there; but as weights and h are permuted alike, the sum is the same.
  template <class From>
  __device__ __forceinline__ void add_tiles(Sums& sums, const scalar* weights,
                                            const scalar* entering, int stride, int first,
                                            int last) const {
    constexpr int kAhead = From::kAhead > kColumnTiles ? From::kAhead / kColumnTiles : 1;
    const int held = min(last, first + kHeld * kBlockK);
#pragma unroll
    for (int block = 0; block < kHeld; block += kAhead)
      add_blocks<From, kAhead>(sums, entering, stride, first + block * kBlockK, held,
                               [&](int a) { return held_[block + a < kHeld ? block + a : 0]; });
    for (int k = held; k < last; k += kAhead * kBlockK)
      add_blocks<From, kAhead>(sums, entering, stride, k, last,
                               [&](int a) { return fragment(weights + k - held + a * kBlockK); });
  }

  // kAhead blocks of K from k on, as far as they are there.
  template <class From, int kAhead, class Weights>
  __device__ __forceinline__ void add_blocks(Sums& sums, const scalar* entering, int stride, int k,
                                             int last, const Weights& weights) const {
    uint4 h[kAhead][kColumnTiles];
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (k + a * kBlockK < last)
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n)
          h[a][n] = From::load(entering + n * 8 * stride + k + a * kBlockK);
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (k + a * kBlockK < last) add_block(sums, weights(a), h[a]);
  }

  __device__ __forceinline__ void add_block(Sums& sums, const Fragment& weights,
                                            const uint4 (&h)[kColumnTiles]) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const uint4 upper = weights.of[m][0], lower = weights.of[m][1];
      const uint32_t a0[4] = {upper.x, lower.x, upper.y, lower.y};
      const uint32_t a1[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        const uint32_t b0[2] = {h[n].x, h[n].y}, b1[2] = {h[n].z, h[n].w};
        mma_m16n8k16<scalar>(sums.of[m][n], a0, b0, sums.of[m][n]);
        mma_m16n8k16<scalar>(sums.of[m][n], a1, b1, sums.of[m][n]);
      }
    }
  }

  // The same rows and columns a lane as the tiles give it, four elements of K at once.
  template <class From>
  __device__ __forceinline__ void add_floats(Sums& sums, const scalar* weights,
                                             const scalar* entering, int stride, int first,
                                             int last) const {
#pragma unroll 1
    for (int k = first; k < last; k += 4) {
      uint4 h[kColumnTiles][2];
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) h[n][e] = From::load(entering + (n * 8 + e) * stride + k);
#pragma unroll
      for (int r = 0; r < 2 * kRowTiles; ++r) {
        const uint4 w = FromShared::load(weights + 8 * r * row_ + k);
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& sum = sums.of[r / 2][n][r % 2 * 2 + e];
            sum = fmaf(__uint_as_float(w.x), __uint_as_float(h[n][e].x), sum);
            sum = fmaf(__uint_as_float(w.y), __uint_as_float(h[n][e].y), sum);
            sum = fmaf(__uint_as_float(w.z), __uint_as_float(h[n][e].z), sum);
            sum = fmaf(__uint_as_float(w.w), __uint_as_float(h[n][e].w), sum);
          }
      }
    }
  }

  const int slice_, kept_, rows_, row_;
  scalar* const weights_;
  Fragment held_[kHeld > 0 ? kHeld : 1];
};

// Brings the partial sums of the warps that split K together, always in the same order.
template <class P, int kRowTiles>
class Reduction {
 public:
  LTLSTM_INLINE int shared_elements(int warps) {
    return P::kSplit ? warps * P::kPieces * kLanes : 0;
  }

  __device__ __forceinline__ explicit Reduction(Values<kRowTiles>* partial) : partial_(partial) {}

  // All threads of the block. A barrier must follow before the next call.
  template <class Sums>
  __device__ __forceinline__ void add(const WarpPlace& at, const Sums& sums) {
    if constexpr (P::kSplit) {
#pragma unroll
      for (int j = 0; j < P::kPieces; ++j) partial_[index(at, j, at.split)] = piece_of(sums, j);
      __syncthreads();
    }
  }

  // What this lane has in a slot that it owns.
  template <class Sums>
  __device__ __forceinline__ Values<kRowTiles> get(const WarpPlace& at, const Sums& sums,
                                                   int slot) const {
    if constexpr (!P::kSplit) return piece_of(sums, slot);
    Values<kRowTiles> total = {};
    for (int split = 0; split < at.splits; ++split) {
      const Values<kRowTiles> one = partial_[index(at, P::piece(at, slot), split)];
#pragma unroll
      for (int r = 0; r < 2 * kRowTiles; ++r) total.v[r] += one.v[r];
    }
    return total;
  }

 private:
  template <class Sums>
  __device__ __forceinline__ static Values<kRowTiles> piece_of(const Sums& sums, int j) {
    Values<kRowTiles> values;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      values.v[2 * m] = sums.of[m][j / 2][j % 2];
      values.v[2 * m + 1] = sums.of[m][j / 2][2 + j % 2];
    }
    return values;
  }

  __device__ __forceinline__ static int index(const WarpPlace& at, int piece, int split) {
    return ((at.part * P::kPieces + piece) * at.splits + split) * kLanes + at.lane;
  }

  Values<kRowTiles>* const partial_;
};

}  // namespace ltlstm::cuda
