// Private to dist: CPU tensors that stand in for tensors on a GPU while the host moves them. A
// tensor on the CPU stands for itself.
#pragma once

#include <optional>
#include <vector>

#include <tendril/core/cuda.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist {

class HostCopies {
 public:
  /// In the thread that queued the work which makes the tensors.
  explicit HostCopies(Device device);

  // The rest in the thread that moves them.

  /// With the tensor's numbers.
  Tensor input(const Tensor& x);
  /// finish() takes its numbers back.
  Tensor output(const Tensor& x);
  Tensor in_place(const Tensor& x);
  std::vector<Tensor> in_place(std::vector<Tensor> tensors);
  /// Returns when all outputs are where they belong.
  void finish();

 private:
  std::optional<cuda::Event> ready_;
  std::vector<std::pair<Tensor, Tensor>> outputs_;  // tensor, what stands in for it
};

}  // namespace tendril::dist
