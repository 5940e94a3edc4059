#include <tendril/core/cpu/scratch.h>

#include <cstdlib>
#include <new>
#include <vector>

#include <tendril/core/threads.h>

namespace tendril::cpu {
namespace {

constexpr int64_t kPieceBytes = 1 << 20;

char* from_system(int64_t bytes) {
  void* const data = std::aligned_alloc(64, static_cast<size_t>(bytes));
  if (!data) throw std::bad_alloc();
  detail::count_system_allocation();
  return static_cast<char*>(data);
}

// A block for what does not fit in the piece. It grows to the largest request at its depth and then
// serves all later ones.
struct Block {
  char* data = nullptr;
  int64_t bytes = 0;
};

struct ThreadMemory {
  char* piece = nullptr;
  int64_t used = 0;           // of the piece
  std::vector<Block> blocks;  // by depth
  size_t depth = 0;           // blocks in use

  ~ThreadMemory() {
    std::free(piece);
    for (const Block& block : blocks) std::free(block.data);
  }

  char* take_piece(int64_t bytes) {
    if (!piece) piece = from_system(kPieceBytes);
    used += bytes;
    return piece + used - bytes;
  }

  char* take_block(int64_t bytes) {
    if (depth == blocks.size()) blocks.emplace_back();
    Block& block = blocks[depth];
    if (block.bytes < bytes) {
      std::free(block.data);
      block = {};
      bytes = (bytes + kPieceBytes - 1) / kPieceBytes * kPieceBytes;
      block = {from_system(bytes), bytes};
    }
    ++depth;
    return block.data;
  }
};
thread_local ThreadMemory memory;

}  // namespace

Scratch::Scratch(int64_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (memory.used + bytes <= kPieceBytes) {
    data_ = memory.take_piece(bytes);
    taken_ = bytes;
  } else if (detail::in_parallel()) {
    data_ = memory.take_block(bytes);
    is_block_ = true;
  } else {
    storage_ = Storage::allocate(bytes, Device::cpu());
    data_ = static_cast<char*>(storage_->data());
  }
}

Scratch::~Scratch() {
  memory.used -= taken_;
  if (is_block_) --memory.depth;
}

}  // namespace tendril::cpu
