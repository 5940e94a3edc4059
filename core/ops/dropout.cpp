#include <tendril/core/ops/dropout.h>

#include <algorithm>

#include <tendril/core/cpu/block.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/dropout_rows.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

Tensor dropout(const Tensor& x, double p, RandomKey key) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype());
  const auto stream = tendril::cpu::philox_stream(key);
  const uint32_t threshold = drop_threshold(p);
  const double scale = 1.0 / (1.0 - p);
  using tendril::cpu::kBlock;
  static_assert(kBlock % tendril::cpu::kPhiloxWords == 0);
  visit_floating("dropout", x.dtype(), [&](auto tag) {
    using C = compute_t<typename decltype(tag)::type>;
    const tendril::cpu::BlockReader reader(x, x.shape());
    parallel_for(x.numel(), 8 * kBlock, [&](int64_t begin, int64_t end) {
      C buffer[kBlock], result_buffer[kBlock];
      for (int64_t at = begin; at < end; at += kBlock) {
        const int64_t count = std::min(kBlock, end - at);
        const C* values = reader.read(at, count, buffer);
        C* result = tendril::cpu::block_target(y, at, result_buffer);
        TENDRIL_ISA_CALL(dropout_run(values, result, at, count, stream, threshold, scale));
        tendril::cpu::write_block(y, at, count, result);
      }
    });
  });
  return y;
}

}  // namespace
}  // namespace cpu

namespace cuda {
Tensor dropout(const Tensor& x, double p, RandomKey key);  // dropout.cu
}

void check_dropout(const Tensor& x, double p) {
  TENDRIL_CHECK(p >= 0.0 && p <= 1.0, "[dropout] p is the probability to drop an element; got ", p,
                "; it must be in [0, 1]");
  TENDRIL_CHECK(is_floating(x.dtype()), "[dropout] needs a floating-point tensor; got ", x.dtype(),
                "; cast it with to(x, f32)");
}

Tensor dropout(const Tensor& x, double p, RandomKey key) {
  check_dropout(x, p);
  // 2^32, the threshold of p = 1, is not a word.
  if (p == 1.0) return zeros(x.shape(), x.dtype(), x.device());
  return TENDRIL_ON_DEVICE(x, dropout(x, p, key));
}

}  // namespace tendril::ops
