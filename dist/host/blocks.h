// Private to dist: lists of blocks of memory, read one after the other.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include <tendril/dist/host/transport.h>

namespace tendril::dist {

template <class Block>
size_t total_bytes(const std::vector<Block>& blocks) {
  size_t bytes = 0;
  for (const Block& block : blocks) bytes += block.size();
  return bytes;
}

/// Both have the same number of bytes. A block may be copied onto itself.
inline void copy_blocks(const std::vector<Bytes>& to, const std::vector<ConstBytes>& from) {
  size_t target = 0, written = 0;
  for (const ConstBytes& source : from) {
    for (size_t read = 0; read < source.size();) {
      while (written == to[target].size()) ++target, written = 0;
      const size_t count = std::min(source.size() - read, to[target].size() - written);
      std::byte* destination = to[target].data() + written;
      if (destination != source.data() + read)
        std::memcpy(destination, source.data() + read, count);
      read += count, written += count;
    }
  }
}

}  // namespace tendril::dist
