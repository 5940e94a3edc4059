#include <tendril/core/ops/random_fill.h>

#include <algorithm>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

constexpr int64_t kChunk = 16384;  // a multiple of 4, so that chunks begin with a Philox block

template <template <class> class Numbers>
void fill_random(const Tensor& x, const RandomKey& key) {
  visit_floating("random", x.dtype(), [&]<class T>(TypeTag<T>) {
    T* const data = x.data<T>();
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += 4) {
        T values[4];
        Numbers<T>()(key.block(static_cast<uint64_t>(i) / 4), values);
        std::copy_n(values, std::min<int64_t>(4, end - i), data + i);
      }
    });
  });
}

void fill_uniform(const Tensor& x, const RandomKey& key) { fill_random<UniformNumbers>(x, key); }
void fill_normal(const Tensor& x, const RandomKey& key) { fill_random<NormalNumbers>(x, key); }

}  // namespace
}  // namespace cpu

namespace cuda {
void fill_uniform(const Tensor& x, const RandomKey& key);  // random_fill.cu
void fill_normal(const Tensor& x, const RandomKey& key);
}  // namespace cuda

void fill_uniform(const Tensor& x, const RandomKey& key) {
  TENDRIL_ON_DEVICE(x, fill_uniform(x, key));
}
void fill_normal(const Tensor& x, const RandomKey& key) {
  TENDRIL_ON_DEVICE(x, fill_normal(x, key));
}

}  // namespace tendril::ops
