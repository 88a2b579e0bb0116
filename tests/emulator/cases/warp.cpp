// SPDX-License-Identifier: Apache-2.0
// Cases of one warp: shuffles, votes, and the matrix instructions against the plain sums.

#include "case.h"

namespace {

const LaunchShape kWarp{dim3(1), dim3(32), 4096};
constexpr uint32_t kAll = 0xffffffff;

int me() { return static_cast<int>(threadIdx.x); }

template <bool kWrong>
void missing_warp_barrier() {
  SharedArrays arrays;
  int* numbers = arrays.take<int>(32);
  numbers[me()] = me();
  __shfl_xor_sync(kAll, 1, 1);  // meets, but orders no memory
  if (!kWrong) __syncwarp();
  answer(numbers[me() ^ 1] == (me() ^ 1));
}

template <bool kWrong>
void shuffle_without_half_the_warp() {
  int got = me() ^ 16;
  if (!kWrong || me() < 16) got = __shfl_xor_sync(kAll, me(), 16);
  answer(got == (me() ^ 16));
}

template <bool kWrong>
void shuffle_from_outside_the_mask() {
  if (me() < 16) __shfl_sync(0x0000ffff, me(), kWrong ? 20 : 3);
  answer(true);
}

template <bool kWrong>
void two_instructions() {
  int any;
  if (kWrong && me() == 9) {
    any = __shfl_sync(kAll, 1, 0);
  } else {
    any = __any_sync(kAll, 1);
  }
  answer(any == 1);
}

template <bool kWrong>
void overlapping_masks() {
  const uint32_t mask = me() < 16 ? (kWrong ? 0x0001ffff : 0x0000ffff) : 0xffff0000;
  __syncwarp(mask);
  answer(true);
}

template <bool kWrong>
void values_of_the_warp() {
  bool right = __shfl_sync(kAll, me(), 35) == 3;
  right &= __shfl_sync(kAll, me(), 1, 8) == (me() & 24) + 1;
  right &= __shfl_up_sync(kAll, me(), 2, 8) == ((me() & 7) < 2 ? me() : me() - 2);
  right &= __shfl_down_sync(kAll, me(), 3) == (me() > 28 ? me() : me() + 3);
  right &= __shfl_xor_sync(kAll, static_cast<double>(me()), 5) == (me() ^ 5);
  right &= __ballot_sync(kAll, me() % 2) == 0xaaaaaaaa;
  right &= __any_sync(kAll, me() == 40) == 0 && __all_sync(kAll, me() < 32) == 1;
  right &= __reduce_add_sync(kAll, me()) == (kWrong ? 495 : 496);
  right &= __reduce_max_sync(kAll, me()) == 31;
  answer(right);
}

// a (16x16) b (16x8) + c of small whole numbers, with which every order of the sum is exact.
int element_a(int row, int k) { return (row * 5 + k * 3) % 7 - 3; }
int element_b(int k, int column) { return (k * 11 + column * 2) % 5 - 2; }
int element_c(int row, int column) { return row - 2 * column; }

constexpr int kRow = 24;  // elements of a row in shared memory: 16 and a gap

// kFault 1: two registers of A are swapped; 2: a row past the array; 3: rows of 17 elements.
template <class scalar, int kFault>
void product() {
  SharedArrays arrays;
  scalar* a = arrays.take<scalar>(16 * kRow);
  scalar* b = arrays.take<scalar>(8 * kRow);
  for (int k = me(); k < 16 * 16; k += 32) {
    a[k / 16 * kRow + k % 16] = static_cast<float>(element_a(k / 16, k % 16));
  }
  for (int k = me(); k < 8 * 16; k += 32) {
    b[k / 16 * kRow + k % 16] = static_cast<float>(element_b(k % 16, k / 16));
  }
  __syncwarp();
  const int stride = kFault == 3 ? 17 : kRow, group = me() / 4, pair = me() % 4 * 2;
  uint32_t fragment_a[4], fragment_b[2];
  ldmatrix_x4(fragment_a, &a[(me() % 16 + (kFault == 2 ? 1 : 0)) * stride + me() / 16 * 8]);
  ldmatrix_x2(fragment_b, &b[me() % 8 * kRow + me() / 8 % 2 * 8]);
  if (kFault == 1) std::swap(fragment_a[1], fragment_a[2]);
  float sums[4];
  for (int r = 0; r < 4; ++r) {
    sums[r] = static_cast<float>(element_c(group + r / 2 * 8, pair + r % 2));
  }
  mma_m16n8k16<scalar>(sums, fragment_a, fragment_b, sums);
  bool right = true;
  for (int r = 0; r < 4; ++r) {
    const int row = group + r / 2 * 8, column = pair + r % 2;
    int expected = element_c(row, column);
    for (int k = 0; k < 16; ++k) expected += element_a(row, k) * element_b(k, column);
    right &= sums[r] == static_cast<float>(expected);
  }
  answer(right);
}

// An 8x8 tile and its transpose: element (row, column) holds 8 row + column.
template <bool kWrong>
void transposed_tiles() {
  SharedArrays arrays;
  auto* tiles = arrays.take<uint16_t>(4 * 64);
  for (int k = me(); k < 256; k += 32) tiles[k] = static_cast<uint16_t>(k);
  __syncwarp();
  uint32_t four[4], two[2];
  ldmatrix_x4_trans(four, &tiles[me() * 8]);
  ldmatrix_x2_trans(two, &tiles[me() % 16 * 8]);
  const int column = me() / 4, row = me() % 4 * 2;
  bool right = true;
  for (int tile = 0; tile < 4; ++tile) {
    const int low = tile * 64 + row * 8 + column, high = low + (kWrong ? 1 : 8);
    const uint32_t expected = static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
    right &= four[tile] == expected && (tile > 1 || two[tile] == expected);
  }
  answer(right);
}

}  // namespace

std::vector<Case> warp_cases() {
  return {
      {"a missing warp barrier", kWarp, missing_warp_barrier<false>, missing_warp_barrier<true>},
      {"a shuffle without half the warp", kWarp, shuffle_without_half_the_warp<false>,
       shuffle_without_half_the_warp<true>},
      {"a shuffle from outside the mask", kWarp, shuffle_from_outside_the_mask<false>,
       shuffle_from_outside_the_mask<true>},
      {"two instructions", kWarp, two_instructions<false>, two_instructions<true>},
      {"overlapping masks", kWarp, overlapping_masks<false>, overlapping_masks<true>},
      {"values of the warp", kWarp, values_of_the_warp<false>, values_of_the_warp<true>},
      {"a product of bfloat16, fragments swapped", kWarp, product<__nv_bfloat16, 0>,
       product<__nv_bfloat16, 1>},
      {"a product of half, fragments swapped", kWarp, product<__half, 0>, product<__half, 1>},
      {"a product, past the array", kWarp, product<__half, 0>, product<__half, 2>},
      {"a product, misaligned rows", kWarp, product<__half, 0>, product<__half, 3>},
      {"transposed tiles", kWarp, transposed_tiles<false>, transposed_tiles<true>},
  };
}
