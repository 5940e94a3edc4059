// Which weights a low-rank optimizer works on: those of linear layers, chosen by module path.
#pragma once

#include <string>
#include <vector>

#include <tendril/nn/module.h>

namespace tendril {

/// The weights (not biases) of the linear layers whose path matches, under their names in
/// named_parameters(): nn::Linear and GPT-2's Conv1D. A frozen weight is left out. A key matches a
/// path such as "h.0.attn.c_attn" when it is the path, a part of it, or a regular expression for
/// all of it; "all-linear" (or "all_linear") alone stands for every linear layer, the head
/// included, and with it an embedding that is tied to the head. Expressions are ECMAScript's
/// (std::regex). Error when nothing matches, with the layers that there are.
TENDRIL_API std::vector<NamedTensor> target_weights(nn::Module& model,
                                                    const std::vector<std::string>& keys);

/// The same for one expression that must match whole paths: "attn" matches no part of a path.
TENDRIL_API std::vector<NamedTensor> target_weights(nn::Module& model, const std::string& pattern);

}  // namespace tendril
