#include <tendril/core/ops/dropout.h>

#include <tendril/core/creation.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/dropout_rows.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

Tensor dropout(const Tensor& x, double p, RandomKey key) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype());
  visit_floating("dropout", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    constexpr int64_t kChunk = 8192, kRun = 1024;  // multiples of the 64 words that come at once
    const Elements<T> in(x), out(y);
    const auto stream = tendril::cpu::philox_stream(key);
    const uint32_t threshold = drop_threshold(p);
    const double scale = 1.0 / (1.0 - p);
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      C buffer[kRun], result_buffer[kRun];
      for (int64_t at = begin; at < end; at += kRun) {
        const int64_t count = std::min(kRun, end - at);
        C* result = out.target(at, count, result_buffer);
        const C* values = in.read(at, count, buffer);
        TENDRIL_ISA_CALL(dropout_run(values, result, at, count, stream, threshold, scale));
        out.write(at, count, result);
      }
    });
  });
  return y;
}

}  // namespace
}  // namespace cpu

Tensor dropout(const Tensor& x, double p, RandomKey key) {
  TENDRIL_CHECK(p >= 0.0 && p <= 1.0, "[dropout] p is the probability to drop an element; got ", p,
                "; it must be in [0, 1]");
  TENDRIL_CHECK(is_floating(x.dtype()), "[dropout] needs a floating-point tensor; got ", x.dtype(),
                "; cast it with to(x, f32)");
  if (p == 1.0)
    return zeros(x.shape(), x.dtype(), x.device());  // 2^32, the threshold, is not a word
  return TENDRIL_ON_DEVICE(x, dropout(x, p, key));
}

}  // namespace tendril::ops
