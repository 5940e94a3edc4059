#include <tendril/autograd/tape.h>
#include <tendril/nn/embedding.h>
#include <tendril/nn/init.h>

#include <cmath>
#include <utility>

namespace tendril::nn {

Embedding::Embedding(int64_t count, int64_t channels, const EmbeddingOptions& options)
    : padding_idx_(options.padding_idx) {
  TENDRIL_CHECK(count > 0 && channels > 0, "[Embedding] sizes must be positive; got count ", count,
                ", channels ", channels);
  TENDRIL_CHECK(!padding_idx_ || (*padding_idx_ >= 0 && *padding_idx_ < count),
                "[Embedding] padding_idx must be in [0, ", count, "); got ",
                padding_idx_.value_or(0));
  weight_ = add_parameter("weight", Tensor::empty({count, channels}, options.dtype));
  init::normal_(weight_, 0.0, options.std);
  if (padding_idx_) {
    const NoGradGuard no_grad;
    zero_(select(weight_, 0, *padding_idx_));
  }
}

Tensor Embedding::forward(const Tensor& indices) const {
  const Tensor vectors = embedding(indices, weight_, padding_idx_);
  if (!training() || noise_alpha_ == 0.0 || indices.rank() == 0) return vectors;
  // Drawn wider than 16 bits, in which a uniform number could round to 1.
  const DType dtype = vectors.dtype() == f64 ? f64 : f32;
  const Tensor uniform =
      rand(vectors.shape(), dtype, default_generator().next(Stream::noise), vectors.device());
  const Tensor noise = (uniform * 2.0 - 1.0) * tendril::to(noise_bound(indices), dtype);
  return vectors + tendril::to(noise, vectors.dtype());
}

// alpha / sqrt(L C) in f64: one number, or (..., T, 1).
Tensor Embedding::noise_bound(const Tensor& indices) const {
  const auto channels = static_cast<double>(weight_.size(1));
  if (!noise_lengths_.defined()) {
    const double elements = static_cast<double>(indices.size(-1)) * channels;
    return full({}, noise_alpha_ / std::sqrt(elements), f64, weight_.device());
  }
  TENDRIL_CHECK(noise_lengths_.shape() == indices.shape(),
                "[Embedding] the noise lengths must have the indices' shape; got ",
                noise_lengths_.shape(), " and ", indices.shape(),
                "; call set_noise_lengths() for these indices, or with an undefined tensor");
  const Tensor lengths = tendril::to(tendril::to(noise_lengths_, weight_.device()), f64);
  const Tensor bound = noise_alpha_ / sqrt(clamp_min(lengths, 1.0) * channels);
  return unsqueeze(masked_fill(bound, lt(lengths, 1.0), 0.0), -1);
}

void Embedding::set_noise_alpha(double alpha) {
  TENDRIL_CHECK(std::isfinite(alpha) && alpha >= 0.0,
                "[set_noise_alpha] must be finite and not negative; got ", alpha);
  noise_alpha_ = alpha;
}

void Embedding::set_noise_lengths(Tensor lengths) {
  TENDRIL_CHECK(!lengths.defined() || lengths.dtype() == i64 || lengths.dtype() == i32,
                "[set_noise_lengths] lengths must be i64 or i32; got ", lengths.dtype());
  noise_lengths_ = std::move(lengths);
}

}  // namespace tendril::nn
