#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/init.h>

#include <cmath>

namespace tendril::nn::init {
namespace {

thread_local bool skip = false;

RandomKey next_key() { return default_generator().next(Stream::init); }

// 16-bit weights are drawn in f32 and rounded once.
DType draw_dtype(const Tensor& x) { return accumulate_dtype(x.dtype()); }

struct Fans {
  double in, out;
};

Fans fans(const char* op, const Tensor& x) {
  TENDRIL_CHECK(x.rank() >= 2, "[", op,
                "] needs a weight of at least two axes (out, in, ...); got shape ", x.shape());
  double field = 1.0;
  for (int64_t i = 2; i < x.rank(); ++i) field *= static_cast<double>(x.size(i));
  return {static_cast<double>(x.size(1)) * field, static_cast<double>(x.size(0)) * field};
}

void require_floating(const char* op, const Tensor& x) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[", op, "] needs a floating-point tensor; got ",
                x.dtype());
}

// A bound of infinity (fan 0) comes only with tensors that have no elements.
void symmetric_uniform(const Tensor& x, double bound) {
  if (x.numel() > 0) uniform_(x, -bound, bound);
}

}  // namespace

SkipInit::SkipInit() : previous_(skip) { skip = true; }
SkipInit::~SkipInit() { skip = previous_; }

void normal_(const Tensor& x, double mean, double std) {
  require_floating("normal_", x);
  TENDRIL_CHECK(std >= 0.0, "[normal_] the standard deviation must not be negative; got ", std);
  if (skip) return;
  const NoGradGuard no_grad;
  copy_(x, randn(x.shape(), draw_dtype(x), next_key()) * std + mean);
}

void uniform_(const Tensor& x, double low, double high) {
  require_floating("uniform_", x);
  TENDRIL_CHECK(low <= high, "[uniform_] needs low <= high; got ", low, " and ", high);
  if (skip) return;
  const NoGradGuard no_grad;
  copy_(x, rand(x.shape(), draw_dtype(x), next_key()) * (high - low) + low);
}

void trunc_normal_(const Tensor& x, double mean, double std, double low, double high) {
  require_floating("trunc_normal_", x);
  const auto cumulative = [&](double bound) {
    return 0.5 * std::erfc(-(bound - mean) / (std * std::sqrt(2.0)));
  };
  TENDRIL_CHECK(
      std > 0.0 && low < high && cumulative(high) - cumulative(low) >= 0.01,
      "[trunc_normal_] [low, high] must hold at least 1 % of the normal distribution; got mean ",
      mean, ", std ", std, ", low ", low, ", high ", high);
  if (skip) return;
  const NoGradGuard no_grad;
  const auto draw = [&] { return randn(x.shape(), draw_dtype(x), next_key()) * std + mean; };
  Tensor value = draw();
  while (true) {
    const Tensor outside = logical_or(lt(value, low), gt(value, high));
    if (!any(outside).item<bool>()) break;
    value = where(outside, draw(), value);
  }
  copy_(x, value);
}

void kaiming_uniform_(const Tensor& x, double a) {
  symmetric_uniform(
      x, std::sqrt(2.0 / (1.0 + a * a)) * std::sqrt(3.0 / fans("kaiming_uniform_", x).in));
}

void xavier_uniform_(const Tensor& x, double gain) {
  const Fans fan = fans("xavier_uniform_", x);
  symmetric_uniform(x, gain * std::sqrt(6.0 / (fan.in + fan.out)));
}

void constant_(const Tensor& x, double value) {
  const NoGradGuard no_grad;
  fill_(x, value);
}

void zeros_(const Tensor& x) { constant_(x, 0.0); }
void ones_(const Tensor& x) { constant_(x, 1.0); }

}  // namespace tendril::nn::init
