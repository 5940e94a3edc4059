#include <tendril/autograd/tape.h>
#include <tendril/nn/embedding.h>
#include <tendril/nn/init.h>

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
  return embedding(indices, weight_, padding_idx_);
}

}  // namespace tendril::nn
