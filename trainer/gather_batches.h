// Private to the Trainer: what the processes have predicted, put together.
#pragma once

#include <vector>

#include <tendril/dist/process_group.h>

namespace tendril {

/// Collective. Every process gives the tensors of its batches, batch k of process r being number
/// k * size + r of the dataset; all get all of them, in that order, on the CPU. Their dtype is one.
std::vector<Tensor> gather_batches(dist::ProcessGroup& group, const std::vector<Tensor>& batches);

}  // namespace tendril
