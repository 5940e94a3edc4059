// A number of a GPU on its way to the host. Internal; no CUDA types.
#pragma once

#include <cstdint>
#include <memory>

#include <tendril/core/tensor.h>

namespace tendril::cuda {

struct LateCopy;  // late_copy.cu

/// Queues a copy of the only element, an i64. Nobody waits.
std::shared_ptr<LateCopy> copy_later(const Tensor& number);
/// Whether the copy is done, and its number: only then.
bool has_arrived(const LateCopy& copy);
int64_t arrived_number(const LateCopy& copy);
/// Returns when it has arrived. Counts as a wait unless it has already.
void wait_for(const LateCopy& copy);

}  // namespace tendril::cuda
