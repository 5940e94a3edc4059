// Sorting, selecting and the tensor cores' instructions on the emulated GPU. Built with
// TENDRIL_CUDA=EMULATED only.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <tendril/core/random.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>
#include <cub/device/device_select.cuh>
#include <tendril/core/cuda/mma.cuh>

using namespace tendril;

namespace {

template <class Key>
std::vector<Key> random_keys(size_t count) {
  const RandomKey key{7};
  std::vector<Key> keys(count);
  for (size_t i = 0; i < count; ++i)
    keys[i] = static_cast<Key>(uint64_t{key.bits(2 * i)} << 32 | key.bits(2 * i + 1));
  return keys;
}

// Calls as core/cuda/radix_sort.cu does: first for the size of the memory, then with it.
template <class Call>
void with_memory(const Call& call) {
  size_t bytes = 0;
  REQUIRE(call(nullptr, bytes) == cudaSuccess);
  REQUIRE(bytes > 0);
  std::vector<unsigned char> memory(bytes);
  size_t less = bytes - 1;
  CHECK(call(memory.data(), less) == cudaErrorInvalidValue);
  CHECK(call(memory.data(), bytes) == cudaSuccess);
}

// Whether positions [first, last) hold the pairs of the same positions before, in the order of
// (bits of the key, position before); values are positions before.
template <class Key>
bool is_sorted_run(const std::vector<Key>& keys, const std::vector<Key>& sorted,
                   const std::vector<int64_t>& values, size_t first, size_t last, int begin_bit,
                   int end_bit) {
  const auto bits = [&](Key key) {
    Key result = 0;
    for (int bit = begin_bit; bit < end_bit; ++bit) result |= key & Key{1} << bit;
    return result;
  };
  std::vector<bool> seen(keys.size());
  for (size_t i = first; i < last; ++i) {
    const auto from = static_cast<size_t>(values[i]);
    if (from < first || from >= last || seen[from] || sorted[i] != keys[from]) return false;
    seen[from] = true;
    if (i == first) continue;
    const Key left = bits(sorted[i - 1]), right = bits(sorted[i]);
    if (left > right || (left == right && values[i - 1] > values[i])) return false;
  }
  return true;
}

template <class Key>
void check_sort(int begin_bit, int end_bit) {
  constexpr size_t kCount = 1000;
  const std::vector<Key> keys = random_keys<Key>(kCount);
  std::vector<Key> sorted(kCount);
  std::vector<int64_t> positions(kCount), values(kCount);
  for (size_t i = 0; i < kCount; ++i) positions[i] = static_cast<int64_t>(i);
  with_memory([&](void* memory, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(memory, bytes, keys.data(), sorted.data(),
                                           positions.data(), values.data(), int64_t{kCount},
                                           begin_bit, end_bit, nullptr);
  });
  CHECK(is_sorted_run(keys, sorted, values, 0, kCount, begin_bit, end_bit));
}

struct Times {
  int length;
  int operator()(int run) const { return run * length; }
};

// ---------------------------------------------------------------- the tensor cores

template <class T>
struct Tiles {
  // Left (16, 16); right (16, 8), stored with its columns as rows, and as it is; sums (16, 8).
  alignas(16) T left[16][16], right_columns[8][16], right[16][8];
  float sums[16][8], of_transposed[16][8];
};

// Copies `rows` rows of 16 elements into shared memory, a lane a chunk of eight.
uint32_t load_tile(uint32_t at, const void* source, int chunks) {
  const int lane = static_cast<int>(threadIdx.x);
  cuda::copy_async(at + 16 * static_cast<uint32_t>(lane),
                   static_cast<const char*>(source) + (lane < chunks ? 16 * lane : 0),
                   lane < chunks);
  return at + 16 * 32;
}

template <class T>
void product_kernel(Tiles<T>* tiles) {
  const uint32_t left = cuda::shared_address(emulated::dynamic_shared());
  const uint32_t columns = load_tile(left, tiles->left, 32);
  const uint32_t right = load_tile(columns, tiles->right_columns, 16);
  load_tile(right, tiles->right, 16);
  cuda::commit_copies();
  cuda::wait_copies<0>();
  emulated::synchronize_warp();
  const auto lane = static_cast<uint32_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  uint32_t a[4], b[4], b_transposed[4];
  // Row `lane % 16` of the left tile, first its lower eight columns, then the others.
  cuda::load_matrices(a, left + lane % 16 * 32 + lane / 16 * 16);
  // Rows of the right tile's columns: K 0..7, K 8..15; beyond the eighth there are zeros.
  cuda::load_matrices(b, columns + (lane % 8 + lane / 16 * 8) * 32 + lane / 8 % 2 * 16);
  cuda::load_matrices_transposed(b_transposed, right + lane * 16);
  float c[4] = {0.0f, 1.0f, 2.0f, 3.0f}, c_transposed[4] = {}, zeros[4] = {};
  cuda::multiply_add<T>(c, a, b[0], b[1]);
  cuda::multiply_add<T>(c_transposed, a, b_transposed[0], b_transposed[1]);
  cuda::multiply_add<T>(zeros, a, b[2], b[3]);
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = g + i / 2 * 8, column = 2 * t + i % 2;
    tiles->sums[row][column] = c[i] + zeros[i];
    tiles->of_transposed[row][column] = c_transposed[i];
  }
}

template <class T>
void check_product() {
  const RandomKey key{11};
  uint64_t drawn = 0;
  const auto draw = [&] { return static_cast<float>(key.bits(drawn++)) / 4294967296.0f - 0.5f; };
  Tiles<T> tiles;
  for (auto& row : tiles.left)
    for (T& x : row) x = static_cast<T>(draw());
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < 8; ++n)
      tiles.right[k][n] = tiles.right_columns[n][k] = static_cast<T>(draw());
  Tiles<T>* on_device = &tiles;
  emulated::launch({1}, {32}, 3 * 512, nullptr, [on_device] { product_kernel(on_device); });
  REQUIRE(cudaGetLastError() == cudaSuccess);
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      double sum = 0.0;
      for (int k = 0; k < 16; ++k)
        sum +=
            static_cast<double>(tiles.left[row][k]) * static_cast<double>(tiles.right[k][column]);
      // c[i] began with i: the second of two columns 1 more, the lower eight rows 2 more.
      const double began = column % 2 + row / 8 * 2;
      CHECK(std::abs(tiles.sums[row][column] - (began + sum)) < 1e-6);
      CHECK(std::abs(tiles.of_transposed[row][column] - sum) < 1e-6);
    }
}

}  // namespace

TEST_SUITE("emulated libraries") {
  TEST_CASE("sorts are stable and look only at the bits they are given") {
    check_sort<uint32_t>(0, 32);
    check_sort<uint32_t>(0, 3);
    check_sort<uint32_t>(28, 32);
    check_sort<uint64_t>(0, 64);
    check_sort<uint64_t>(30, 36);
    check_sort<uint64_t>(5, 5);  // nothing to sort by: a copy
  }

  TEST_CASE("a sort onto itself or by bits that are not there is refused") {
    std::vector<uint32_t> keys = random_keys<uint32_t>(8), sorted(8);
    std::vector<int32_t> values(8), sorted_values(8);
    size_t bytes = 0;
    const auto sort = [&](uint32_t* to, int end_bit) {
      return cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys.data(), to, values.data(),
                                             sorted_values.data(), 8, 0, end_bit, nullptr);
    };
    CHECK(sort(sorted.data(), 32) == cudaSuccess);
    CHECK(sort(keys.data(), 32) == cudaErrorInvalidValue);
    CHECK(sort(sorted.data(), 33) == cudaErrorInvalidValue);
  }

  TEST_CASE("segments are sorted each by itself") {
    constexpr int kLength = 7, kRuns = 30, kCount = kLength * kRuns;
    const std::vector<uint32_t> keys = random_keys<uint32_t>(kCount);
    std::vector<uint32_t> sorted(kCount);
    std::vector<int64_t> positions(kCount), values(kCount);
    for (size_t i = 0; i < kCount; ++i) positions[i] = static_cast<int64_t>(i);
    const auto begins =
        thrust::make_transform_iterator(thrust::make_counting_iterator(0), Times{kLength});
    with_memory([&](void* memory, size_t& bytes) {
      return cub::DeviceSegmentedRadixSort::SortPairs(memory, bytes, keys.data(), sorted.data(),
                                                      positions.data(), values.data(), kCount,
                                                      kRuns, begins, begins + 1, 0, 4, nullptr);
    });
    for (size_t first = 0; first < kCount; first += kLength)
      CHECK(is_sorted_run(keys, sorted, values, first, first + kLength, 0, 4));
  }

  TEST_CASE("a selection keeps the order and says how many there are") {
    std::vector<int32_t> kept(100, -1);
    int32_t count = -1;
    with_memory([&](void* memory, size_t& bytes) {
      return cub::DeviceSelect::If(
          memory, bytes, thrust::counting_iterator<int32_t>(0), kept.data(), &count, 100,
          [](int32_t i) { return i % 7 == 3; }, nullptr);
    });
    REQUIRE(count == 14);
    for (size_t i = 0; i < 14; ++i) CHECK(kept[i] == static_cast<int32_t>(7 * i + 3));
    CHECK(kept[14] == -1);
  }

  TEST_CASE("a warp's product of tiles in shared memory, bf16 and f16") {
    check_product<bfloat16>();
    check_product<float16>();
  }

  TEST_CASE("pack rounds to nearest even, the first number below") {
    CHECK(cuda::pack<bfloat16>(1.0f, -2.0f) == 0xC0003F80u);
    CHECK(cuda::pack<bfloat16>(1.0f + 0x1p-8f, 1.0f + 0x3p-8f) == 0x3F823F80u);
    CHECK(cuda::pack<float16>(1.0f, -2.0f) == 0xC0003C00u);
    CHECK(cuda::pack<float16>(1.0f + 0x1p-11f, 65536.0f) == 0x7C003C00u);
  }

  TEST_CASE("the power of 2 of minus infinity, of subnormal results and of ordinary numbers") {
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(cuda::exp2_approximate(-infinity) == 0.0f);
    CHECK(cuda::exp2_approximate(-130.0f) == 0.0f);
    CHECK(cuda::exp2_approximate(-126.0f) == 0x1p-126f);
    CHECK(cuda::exp2_approximate(0.5f) == doctest::Approx(1.41421356));
    CHECK(cuda::exp2_approximate(infinity) == infinity);
    CHECK(std::isnan(cuda::exp2_approximate(std::nanf(""))));
  }
}
