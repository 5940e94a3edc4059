// Private to the trainer: what auto_wrap wraps when no class is named.
#pragma once

#include <string>
#include <vector>

#include <tendril/nn/module.h>

namespace tendril::sharding {

/// Classes that stand at least twice in one ModuleList of the model: "Gpt2Block". Of lists within
/// such a block only the block counts. Empty when nothing repeats.
std::vector<std::string> block_classes(nn::Module& model);

}  // namespace tendril::sharding
