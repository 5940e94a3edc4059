// Parameters of a model, counted from its config.json.
#pragma once

#include <string>

#include <tendril/core/json.h>

namespace tendril::launch {

struct ModelSize {
  std::string type;           // "gpt2"
  double parameters = 0.0;    // tied ones once
  double largest_unit = 0.0;  // a block, or everything outside of the blocks
};

/// For gpt2, llama, mistral and bert in the words of Hugging Face. Error that names a missing or
/// wrong field, or the models that are known.
ModelSize model_size(const Json& config, const std::string& origin);

}  // namespace tendril::launch
