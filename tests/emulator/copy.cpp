// SPDX-License-Identifier: Apache-2.0
// Copies done for the kernel, compiled under its sanitizers so that they see the accesses.

extern "C" void emulator_copy_bytes(char* to, const char* from, int bytes, int zeros) {
  for (int k = 0; k < bytes; ++k) to[k] = from[k];
  for (int k = 0; k < zeros; ++k) to[bytes + k] = 0;
}
