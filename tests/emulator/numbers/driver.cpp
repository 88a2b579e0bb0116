// SPDX-License-Identifier: Apache-2.0
// Writes what half.h makes of every 16-bit pattern, as floats, and of the floats of a file, as
// 16-bit patterns: driver FLOATS OUT, where OUT gets 65,536 floats of __half, then of
// __nv_bfloat16, then the patterns of __half, then of __nv_bfloat16.

#include <cstdio>
#include <vector>

#include "half.h"

int main(int argc, char** argv) {
  FILE* in = argc == 3 ? fopen(argv[1], "rb") : nullptr;
  FILE* out = in != nullptr ? fopen(argv[2], "wb") : nullptr;
  if (out == nullptr) return 2;
  for (const bool half : {true, false}) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const auto pattern = static_cast<unsigned short>(bits);
      const float value = half ? __half2float(__ushort_as_half(pattern))
                               : __bfloat162float(__ushort_as_bfloat16(pattern));
      fwrite(&value, sizeof value, 1, out);
    }
  }
  std::vector<float> floats;
  for (float value; fread(&value, sizeof value, 1, in) == 1;) floats.push_back(value);
  for (const bool half : {true, false}) {
    for (const float value : floats) {
      const unsigned short bits = half ? __half_as_ushort(__float2half(value))
                                       : __bfloat16_as_ushort(__float2bfloat16(value));
      fwrite(&bits, sizeof bits, 1, out);
    }
  }
  return fclose(out);
}
