// Many tensors in one launch, for the work of an optimizer: most parameters are too small to fill a
// GPU, and there are hundreds of them.
#pragma once

#include <cstdint>
#include <span>

#include <tendril/core/api.h>

namespace tendril::cuda {

/// For tensors of which a kernel needs to know nothing but where they are.
struct NothingElse {};

/// Tensors cut into chunks of kChunk elements; each block of a kernel takes one chunk. The table
/// travels in the kernel's parameters (at most 4 KB, of which it takes kBytes): nothing to copy,
/// keep or invalidate.
template <int kPointers, int64_t kChunk, class Extra = NothingElse, int kBytes = 3900>
struct TensorBatch {
  /// One tensor of each role (parameter, gradient ...), all dense and of `size` elements.
  struct Entry {
    void* data[kPointers];
    int64_t size;
    bool aligned;      // all pointers allow vector accesses
    Extra extra = {};  // what else there is to know of them
  };
  struct Piece {
    int tensor;
    int64_t begin, size;
    bool aligned;
  };

  static constexpr int64_t kChunkSize = kChunk;
  static constexpr int kMost = kBytes / static_cast<int>(sizeof(Entry) + sizeof(uint32_t));

  int count = 0;
  uint32_t end[kMost];  // chunks of this tensor and of those before it
  Entry entries[kMost];

  TENDRIL_HD uint32_t chunks() const { return count == 0 ? 0 : end[count - 1]; }

  /// The chunk of this number, by bisection.
  TENDRIL_HD Piece piece(uint32_t chunk) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (end[middle] > chunk)
        high = middle;
      else
        low = middle + 1;
    }
    const Entry& entry = entries[low];
    const int64_t begin = static_cast<int64_t>(chunk - (low == 0 ? 0 : end[low - 1])) * kChunk;
    const int64_t rest = entry.size - begin;
    return {low, begin, rest < kChunk ? rest : kChunk, entry.aligned};
  }

  /// Where the piece begins in the tensor of this role; null when there is none.
  template <class T>
  TENDRIL_HD T* at(const Piece& piece, int role) const {
    T* data = static_cast<T*>(entries[piece.tensor].data[role]);
    return data ? data + piece.begin : nullptr;
  }
};

/// Calls launch(batch) with all tensors that are not empty, as few times as the table allows.
template <class Batch, class Launch>
void for_each_batch(std::span<const typename Batch::Entry> entries, const Launch& launch) {
  constexpr int64_t kChunk = Batch::kChunkSize;
  Batch batch;
  for (const auto& entry : entries) {
    if (entry.size == 0) continue;
    const int64_t end = batch.chunks() + (entry.size + kChunk - 1) / kChunk;
    if (batch.count == batch.kMost || (batch.count > 0 && end > INT32_MAX)) {
      launch(batch);
      batch.count = 0;
    }
    batch.end[batch.count] =
        batch.chunks() + static_cast<uint32_t>((entry.size + kChunk - 1) / kChunk);
    batch.entries[batch.count++] = entry;
  }
  if (batch.count > 0) launch(batch);
}

}  // namespace tendril::cuda
