#include <tendril/core/cuda/radix_sort.cuh>

#include <algorithm>
#include <bit>

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>

namespace tendril::cuda {
namespace {

constexpr int64_t kLongRun = 1 << 17;       // from here on a run keeps the whole GPU busy
constexpr int64_t kMostAtOnce = 1ll << 30;  // cub counts the items of all runs in 32 bits

struct Times {
  int length;
  __host__ __device__ int operator()(int run) const { return run * length; }
};

// cub says how much temporary memory it needs when it is given none.
template <class Sort>
void with_temporary(Device device, const Sort& sort) {
  size_t bytes = 0;
  TENDRIL_CUDA_CHECK(sort(nullptr, bytes));
  const Tensor memory =
      Tensor::empty({std::max<int64_t>(1, static_cast<int64_t>(bytes))}, u8, device);
  TENDRIL_CUDA_CHECK(sort(memory.raw_data(), bytes));
}

template <class Key>
void sort_one(Device device, const Key* keys, Key* sorted_keys, const int64_t* values,
              int64_t* sorted_values, int64_t length, int bits) {
  with_temporary(device, [&](void* memory, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(memory, bytes, keys, sorted_keys, values, sorted_values,
                                           length, 0, bits, stream(device));
  });
}

template <class Key>
void sort_short_runs(Device device, const Key* keys, Key* sorted_keys, const int64_t* values,
                     int64_t* sorted_values, int length, int runs, int bits) {
  const auto begins =
      thrust::make_transform_iterator(thrust::make_counting_iterator(0), Times{length});
  with_temporary(device, [&](void* memory, size_t& bytes) {
    return cub::DeviceSegmentedRadixSort::SortPairs(memory, bytes, keys, sorted_keys, values,
                                                    sorted_values, length * runs, runs, begins,
                                                    begins + 1, 0, bits, stream(device));
  });
}

__global__ void number_kernel(int64_t* positions, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) positions[i] = i;
}

}  // namespace

template <class Key>
void sort_runs(Device device, const Key* keys, Key* sorted_keys, const int64_t* values,
               int64_t* sorted_values, int64_t length, int64_t runs, int bits) {
  if (length == 0) return;
  const int64_t together = length >= kLongRun ? 1 : kMostAtOnce / length;
  for (int64_t first = 0; first < runs; first += together) {
    const int64_t at = first * length, count = std::min(together, runs - first);
    if (count == 1)
      sort_one(device, keys + at, sorted_keys + at, values + at, sorted_values + at, length, bits);
    else
      sort_short_runs(device, keys + at, sorted_keys + at, values + at, sorted_values + at,
                      static_cast<int>(length), static_cast<int>(count), bits);
  }
}

template void sort_runs(Device, const uint32_t*, uint32_t*, const int64_t*, int64_t*, int64_t,
                        int64_t, int);
template void sort_runs(Device, const uint64_t*, uint64_t*, const int64_t*, int64_t*, int64_t,
                        int64_t, int);

Order order_of(const Tensor& keys, uint64_t largest) {
  const Device device = keys.device();
  const int64_t count = keys.numel();
  const Order order{Tensor::empty({count}, i64, device), Tensor::empty({count}, i64, device)};
  if (count == 0) return order;
  const Tensor positions = Tensor::empty({count}, i64, device);
  number_kernel<<<blocks_for(count, 256), 256, 0, stream(device)>>>(positions.data<int64_t>(),
                                                                    count);
  TENDRIL_CUDA_CHECK_LAUNCH("order_of");
  const int bits = std::max(1, static_cast<int>(std::bit_width(largest)));
  sort_runs(device, static_cast<const uint64_t*>(keys.raw_data()),
            static_cast<uint64_t*>(order.keys.raw_data()), positions.data<int64_t>(),
            order.positions.data<int64_t>(), count, 1, bits);
  return order;
}

}  // namespace tendril::cuda
