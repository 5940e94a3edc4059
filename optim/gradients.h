// Private to optim: the gradients of a list of parameters.
#pragma once

#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::optim {

/// Those that there are; one that several parameters share counts once.
std::vector<Tensor> gradients_of(const std::vector<Tensor>& parameters);

}  // namespace tendril::optim
