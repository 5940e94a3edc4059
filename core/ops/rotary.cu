// Rotary position embedding on a GPU: a table of cosines and sines, (T, D/2) each, formed in
// double, then one pass over x.
#include <tendril/core/ops/rotary.h>

#include <tendril/core/cuda/indices.cuh>
#include <tendril/core/cuda/layout.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int64_t kMostBlocks = 1 << 20;

template <class C>
struct Turn {
  C cosine, sine;
};

template <class C>
__global__ void turns_kernel(Turn<C>* turns, int64_t total, int64_t half, double theta,
                             int64_t offset, double direction) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient place = divide(p, half);  // position, pair
    const double exponent = -static_cast<double>(place.rest) / static_cast<double>(half);
    const double angle = static_cast<double>(offset + place.quotient) * pow(theta, exponent);
    double sine, cosine;
    sincos(angle, &sine, &cosine);
    turns[p] = {static_cast<C>(cosine), static_cast<C>(direction * sine)};
  }
}

// A thread turns kPairs pairs of one row. rows: x without its last axis; y is dense, (..., T, D).
template <class T, int kPairs, bool kInterleaved>
__global__ void rotate_kernel(const T* x, Layout rows, int64_t step,
                              const Turn<compute_t<T>>* turns, T* y, int64_t total, int64_t half,
                              int64_t positions) {
  using C = compute_t<T>;
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient place = divide(p, half / kPairs);  // row, group of pairs
    const int64_t pair = place.rest * kPairs;
    const T* const from = x + rows.offset(place.quotient);
    T* const to = y + place.quotient * 2 * half;
    const Turn<C>* const turn = turns + divide(place.quotient, positions).rest * half + pair;
    Vector<T, kPairs> first, second;  // of each pair
    if constexpr (kInterleaved || kPairs == 1) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        first.v[i] = from[(kInterleaved ? 2 * (pair + i) : pair + i) * step];
        second.v[i] = from[(kInterleaved ? 2 * (pair + i) + 1 : pair + i + half) * step];
      }
    } else {
      first = load_vector<T, kPairs>(from + pair);
      second = load_vector<T, kPairs>(from + pair + half);
    }
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const C u = static_cast<C>(first.v[i]), v = static_cast<C>(second.v[i]);
      const C c = turn[i].cosine, s = turn[i].sine;
      first.v[i] = static_cast<T>(u * c - v * s);
      second.v[i] = static_cast<T>(v * c + u * s);
    }
    if constexpr (kInterleaved || kPairs == 1) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        to[kInterleaved ? 2 * (pair + i) : pair + i] = first.v[i];
        to[kInterleaved ? 2 * (pair + i) + 1 : pair + i + half] = second.v[i];
      }
    } else {
      store_vector(to + pair, first);
      store_vector(to + pair + half, second);
    }
  }
}

// Whether every row of x begins at a multiple of 16 bytes and is dense.
bool rows_are_vectors(const Tensor& x) {
  if (x.strides().back() != 1 || !aligned16(x.raw_data())) return false;
  for (int64_t axis = 0; axis + 1 < x.rank(); ++axis)
    if (x.shape()[axis] > 1 && x.strides()[axis] * size_of(x.dtype()) % 16 != 0) return false;
  return true;
}

template <class T, int kPairs, bool kInterleaved>
void launch(const Tensor& x, const Tensor& turns, const Tensor& y) {
  const int64_t half = x.size(-1) / 2, total = x.numel() / 2 / kPairs;
  Shape shape = x.shape(), strides = x.strides();
  const int64_t step = strides.back();
  shape.erase(shape.rank() - 1);
  strides.erase(strides.rank() - 1);
  rotate_kernel<T, kPairs, kInterleaved>
      <<<blocks_for(total, kThreads, kMostBlocks), kThreads, 0, stream(x.device())>>>(
          x.data<T>(), Layout(shape, strides), step,
          static_cast<const Turn<compute_t<T>>*>(turns.raw_data()), y.data<T>(), total, half,
          x.size(-2));
}

}  // namespace

// direction: 1 forward, -1 back.
Tensor rotate(const Tensor& x, double theta, int64_t offset, bool interleaved, double direction) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return y;
  const int64_t half = x.size(-1) / 2, positions = x.size(-2), count = positions * half;
  visit_floating("rotary_embedding", x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const Tensor turns = Tensor::empty({count, 2}, dtype_of<C>(), x.device());
    turns_kernel<<<blocks_for(count, kThreads, kMostBlocks), kThreads, 0, stream(x.device())>>>(
        static_cast<Turn<C>*>(turns.raw_data()), count, half, theta, offset, direction);
    TENDRIL_CUDA_CHECK_LAUNCH("rotary_embedding");
    if (interleaved)
      launch<T, 1, true>(x, turns, y);
    else if (half % kVector<T> == 0 && rows_are_vectors(x) && aligned16(y.raw_data()))
      launch<T, kVector<T>, false>(x, turns, y);
    else
      launch<T, 1, false>(x, turns, y);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("rotary_embedding");
  return y;
}

}  // namespace tendril::ops::cuda
