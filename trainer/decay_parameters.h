// Which parameters weight decay applies to.
#pragma once

#include <string>
#include <vector>

#include <tendril/nn/module.h>

namespace tendril {

/// The parameters that weight decay applies to: not those of LayerNorm and RmsNorm modules, none
/// with a part of its name that is bias, layernorm, rmsnorm or norm, or ends in _norm.
TENDRIL_API std::vector<std::string> decay_parameter_names(nn::Module& model);

}  // namespace tendril
