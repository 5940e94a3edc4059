// Private to dist: that all ranks have the same model.
#pragma once

#include <tendril/dist/process_group.h>
#include <tendril/nn/module.h>

namespace tendril::dist {

/// Collective. Error on all ranks that names the first parameter or buffer whose name, shape, dtype
/// or trainability differs from rank 0's, and the rank.
void require_same_model(ProcessGroup& group, const nn::Module& model);

/// Collective. Rank 0's numbers everywhere.
void broadcast_state(ProcessGroup& group, const std::vector<NamedTensor>& tensors);

}  // namespace tendril::dist
