#include <tendril/autograd/tape.h>
#include <tendril/nn/embedding.h>
#include <tendril/nn/init.h>

#include <cmath>

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
  const auto elements = static_cast<double>(indices.size(-1) * weight_.size(1));
  const double magnitude = noise_alpha_ / std::sqrt(elements);
  const Tensor uniform = rand(vectors.shape(), vectors.dtype(),
                              default_generator().next(Stream::noise), vectors.device());
  return vectors + (uniform * 2.0 - 1.0) * magnitude;
}

void Embedding::set_noise_alpha(double alpha) {
  TENDRIL_CHECK(std::isfinite(alpha) && alpha >= 0.0,
                "[set_noise_alpha] must be finite and not negative; got ", alpha);
  noise_alpha_ = alpha;
}

}  // namespace tendril::nn
