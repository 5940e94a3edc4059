#include <tendril/nn/causal_lm.h>

namespace tendril::nn {

CausalLm::~CausalLm() = default;

Tensor CausalLm::loss(const Tensor& tokens, const Tensor& targets,
                      const CrossEntropyOptions& options) {
  TENDRIL_CHECK(tokens.shape() == targets.shape(),
                "[loss] tokens and targets must have the same shape; got ", tokens.shape(), " and ",
                targets.shape());
  return compute_loss(tokens, targets, options);
}

Tensor CausalLm::compute_loss(const Tensor& tokens, const Tensor& targets,
                              const CrossEntropyOptions& options) {
  return cross_entropy(forward(tokens), targets, options);
}

}  // namespace tendril::nn
