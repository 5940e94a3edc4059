// Triangles on a GPU; the other rearrangements are copies between views.
#include <tendril/core/ops/rearrange.h>

#include <tendril/core/ops/index_layout.h>
#include <tendril/core/cuda/indices.cuh>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

// x (..., rows, columns), dense: zeroes what lies above the diagonal, or below it.
template <bool kAbove, class Bits>
__global__ void zero_kernel(Bits* x, int64_t total, int64_t rows, int64_t columns,
                            int64_t diagonal) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient place = divide(p, columns);
    const int64_t border = divide(place.quotient, rows).rest + diagonal;
    if (kAbove ? place.rest > border : place.rest < border) x[p] = Bits{0};
  }
}

template <bool kAbove>
void zero_triangle(const Tensor& x, int64_t diagonal) {
  const int64_t total = x.numel();
  if (total == 0) return;
  visit_bits(x.dtype(), [&]<class Bits>(TypeTag<Bits>) {
    zero_kernel<kAbove><<<blocks_for(total, kThreads, 1 << 20), kThreads, 0, stream(x.device())>>>(
        static_cast<Bits*>(x.raw_data()), total, x.size(-2), x.size(-1), diagonal);
  });
  TENDRIL_CUDA_CHECK_LAUNCH(kAbove ? "tril" : "triu");
}

}  // namespace

void zero_above_diagonal(const Tensor& x, int64_t diagonal) { zero_triangle<true>(x, diagonal); }

void zero_below_diagonal(const Tensor& x, int64_t diagonal) { zero_triangle<false>(x, diagonal); }

}  // namespace tendril::ops::cuda
