// Activation checkpointing (Chen et al., "Training deep nets with sublinear memory cost", 2016):
// keep a block's inputs instead of its activations, and compute the block again when backward needs
// it.
#pragma once

#include <functional>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril {

/// fn(inputs), without saving what happens inside. Gradients flow to `inputs` and to every other
/// tensor that `fn` reads (weights, earlier activations). The recomputation sees the same random
/// numbers, so dropout masks agree, and the autocast policy of the first run; `fn` must otherwise
/// be a function of what it reads. Checkpoints may be nested. A tensor that `fn` reads must not be
/// changed in place before backward: an Error says so.
TENDRIL_API Tensor checkpoint(std::function<Tensor(const std::vector<Tensor>&)> fn,
                              const std::vector<Tensor>& inputs);

/// The same for a block with several results.
TENDRIL_API std::vector<Tensor> checkpoint_many(
    std::function<std::vector<Tensor>(const std::vector<Tensor>&)> fn,
    const std::vector<Tensor>& inputs);

}  // namespace tendril
