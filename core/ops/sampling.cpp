#include <tendril/core/ops/sampling.h>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = 16384;  // elements per parallel piece

}  // namespace

namespace cpu {

void bernoulli(const Tensor& probability, const RandomKey& key, const Tensor& out) {
  visit_floating("bernoulli", probability.dtype(), [&]<class T>(TypeTag<T>) {
    const T* p = probability.data<T>();
    T* result = out.data<T>();
    parallel_for(out.numel(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double value = convert<double>(p[i]);
        TENDRIL_CHECK(value >= 0.0 && value <= 1.0,
                      "[bernoulli] probabilities must lie in [0, 1]; got ", value);
        const bool one = key.bits(static_cast<uint64_t>(i)) < value * 0x1p32;
        result[i] = convert<T>(one ? 1.0 : 0.0);
      }
    });
  });
}

}  // namespace cpu

namespace cuda {
void bernoulli(const Tensor& probability, const RandomKey& key, const Tensor& out);  // sampling.cu
}  // namespace cuda

Tensor bernoulli(const Tensor& probability, const RandomKey& key) {
  visit_floating("bernoulli", probability.dtype(), [](auto) {});
  const Tensor dense = contiguous(probability);
  const Tensor result = Tensor::empty(dense.shape(), dense.dtype(), dense.device());
  if (result.numel() > 0) TENDRIL_ON_DEVICE(dense, bernoulli(dense, key, result));
  return result;
}

}  // namespace tendril::ops
