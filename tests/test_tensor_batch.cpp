#include <doctest/doctest.h>
#include <tendril/core/cuda/tensor_batch.h>
#include <tendril/core/random.h>

#include <vector>

using namespace tendril::cuda;

namespace {

constexpr int64_t kChunk = 100;
using Batch = TensorBatch<2, kChunk>;

// Tensors of one byte per element, whose bytes count how often they are visited.
struct Memory {
  std::vector<std::vector<char>> tensors;
  std::vector<Batch::Entry> entries;

  explicit Memory(const std::vector<int64_t>& sizes) {
    tensors.resize(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
      tensors[i].assign(static_cast<size_t>(sizes[i]), 0);
      entries.push_back({{tensors[i].data(), nullptr}, sizes[i], i % 2 == 0});
    }
  }
};

}  // namespace

TEST_SUITE("tensor_batch") {
  TEST_CASE("chunks visit every element of every tensor once, in as many launches as needed") {
    std::vector<int64_t> sizes = {0, 1, 99, 100, 101, 0, 12345, 200, 7};
    for (int i = 0; i < 2 * Batch::kMost; ++i) sizes.push_back(i * 37 % 301);
    Memory memory(sizes);
    int launches = 0;
    for_each_batch<Batch>(memory.entries, [&](const Batch& batch) {
      ++launches;
      CHECK(batch.count > 0);
      for (uint32_t chunk = 0; chunk < batch.chunks(); ++chunk) {
        const Batch::Piece piece = batch.piece(chunk);
        CHECK(piece.size > 0);
        CHECK(piece.size <= kChunk);
        CHECK(piece.begin % kChunk == 0);
        CHECK(piece.aligned == batch.entries[piece.tensor].aligned);
        CHECK(batch.at<char>(piece, 1) == nullptr);
        char* data = batch.at<char>(piece, 0);
        for (int64_t i = 0; i < piece.size; ++i) ++data[i];
      }
    });
    CHECK(launches == 3);
    for (const auto& tensor : memory.tensors) CHECK(tensor == std::vector<char>(tensor.size(), 1));
  }

  TEST_CASE("a table fits into the parameters of a kernel, and nothing launches nothing") {
    CHECK(sizeof(TensorBatch<1, kChunk>) <= 4000);
    CHECK(sizeof(TensorBatch<6, kChunk>) <= 4000);
    CHECK(sizeof(TensorBatch<6, kChunk, tendril::RandomKey>) <= 4000);
    CHECK(sizeof(TensorBatch<7, kChunk, tendril::RandomKey, 3000>) <= 3100);
    for_each_batch<Batch>(Memory({0, 0}).entries, [](const Batch&) { CHECK(false); });
    for_each_batch<Batch>(Memory(std::vector<int64_t>()).entries,
                          [](const Batch&) { CHECK(false); });
  }
}
