// Damage to files and texts, for tests of what reads them.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>

namespace tendril::testing {

/// One to four damages: flipped bits, replaced, inserted, removed, copied bytes, cuts, a new header
/// length.
inline std::string damage(std::string bytes, std::mt19937_64& random) {
  const auto below = [&](size_t bound) {
    return bound ? static_cast<size_t>(random() % bound) : 0;
  };
  using namespace std::string_literals;
  const std::string interesting = "{}[]\",:0129-.eE\\ \n\0\xFF\x80u"s;
  const size_t count = 1 + below(4);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = below(bytes.size());
    if (bytes.empty()) return bytes;
    switch (below(8)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        bytes[at] = interesting[below(interesting.size())];
        break;
      case 2:
        bytes.insert(at, 1 + below(3), interesting[below(interesting.size())]);
        break;
      case 3:
        bytes.erase(at, 1 + below(5));
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes.insert(below(bytes.size()), bytes.substr(at, below(40)));
        break;
      case 6:
        bytes[at / 2] ^= 1;
        break;  // the header is in the front half
      default: {
        const uint64_t length = below(2) ? random() >> below(64) : below(bytes.size() + 8);
        if (bytes.size() >= 8) std::memcpy(bytes.data(), &length, 8);
      }
    }
  }
  return bytes;
}

}  // namespace tendril::testing
