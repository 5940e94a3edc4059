#include <tendril/core/cpu/philox.h>

namespace tendril::cpu::TENDRIL_ISA {

// The ten rounds of core/random.h, which cannot be called here (an inline function would be emitted
// with this file's instructions): each word of the counter is an array over many blocks. Unrolling
// the inner loop would keep the compiler from vectorising it.
void philox_words(PhiloxStream stream, uint64_t group, uint32_t* words) {
  constexpr int kBlocks = kPhiloxWords / 4;
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    const uint64_t index = group * kBlocks + static_cast<uint64_t>(b);
    c0[b] = static_cast<uint32_t>(index);
    c1[b] = static_cast<uint32_t>(index >> 32);
    c2[b] = stream.counter2;
    c3[b] = stream.counter3;
  }
  uint32_t key0 = stream.key0, key1 = stream.key1;
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 1
    for (int b = 0; b < kBlocks; ++b) {
      const uint64_t product0 = uint64_t{0xD2511F53u} * c0[b];
      const uint64_t product1 = uint64_t{0xCD9E8D57u} * c2[b];
      c0[b] = static_cast<uint32_t>(product1 >> 32) ^ c1[b] ^ key0;
      c1[b] = static_cast<uint32_t>(product1);
      c2[b] = static_cast<uint32_t>(product0 >> 32) ^ c3[b] ^ key1;
      c3[b] = static_cast<uint32_t>(product0);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int b = 0; b < kBlocks; ++b) {
    words[4 * b] = c0[b];
    words[4 * b + 1] = c1[b];
    words[4 * b + 2] = c2[b];
    words[4 * b + 3] = c3[b];
  }
}

}  // namespace tendril::cpu::TENDRIL_ISA
