#include <tendril/core/cpu/scratch.h>

#include <cstdlib>
#include <new>

namespace tendril::cpu {
namespace {

constexpr int64_t kPieceBytes = 1 << 20;

struct Piece {
  char* data = nullptr;
  int64_t used = 0;
  ~Piece() { std::free(data); }
};
thread_local Piece piece;

}  // namespace

Scratch::Scratch(int64_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (piece.used + bytes > kPieceBytes) {
    storage_ = Storage::allocate(bytes, Device::cpu());
    data_ = static_cast<char*>(storage_->data());
    return;
  }
  if (!piece.data) piece.data = static_cast<char*>(std::aligned_alloc(64, kPieceBytes));
  if (!piece.data) throw std::bad_alloc();
  data_ = piece.data + piece.used;
  taken_ = bytes;
  piece.used += bytes;
}

Scratch::~Scratch() { piece.used -= taken_; }

}  // namespace tendril::cpu
