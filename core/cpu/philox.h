// Random words in bulk: what RandomKey::bits gives one by one.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/random.h>

namespace tendril::cpu {

/// How many words come at once: enough to keep the multipliers busy.
inline constexpr int kPhiloxWords = 256;

/// A RandomKey as the cipher sees it: the counter's two upper words and the key.
struct PhiloxStream {
  uint32_t counter2, counter3, key0, key1;
};

inline PhiloxStream philox_stream(const RandomKey& key) {
  return {static_cast<uint32_t>(key.position),
          static_cast<uint32_t>(key.position >> 32 & 0xFFFFu) | static_cast<uint32_t>(key.stream)
                                                                    << 16,
          static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)};
}

}  // namespace tendril::cpu

/// words[i] = key.bits(kPhiloxWords * group + i), i in [0, kPhiloxWords).
TENDRIL_DECLARE_ISA(void philox_words(PhiloxStream stream, uint64_t group, uint32_t* words))
