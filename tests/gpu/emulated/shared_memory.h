// The shared memory of the running block: filled with a pattern before each block, so that reads of
// what was never written show, and watched at its end.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace emulated {

class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();

  unsigned char* dynamic() const { return dynamic_; }
  size_t dynamic_bytes() const { return bytes_; }

  /// Before a block that was launched with so many bytes.
  void begin_block(size_t dynamic_bytes);
  /// What went wrong in the block, or nothing.
  std::string end_block();
  /// A thread of the block came to a declaration. False when the block has too much.
  bool declare(void* variable, size_t bytes);

 private:
  std::unique_ptr<unsigned char[]> memory_;
  unsigned char* dynamic_;
  size_t bytes_ = 0;
  std::vector<std::pair<void*, size_t>> declared_;  // of the running block
};

}  // namespace emulated
