// A decision that is made on a device, and that the host hears of when it likes.
#pragma once

#include <memory>
#include <optional>

#include <tendril/core/tensor.h>

namespace tendril {

/// Whether the only element of an i64 tensor is not 0. On its way to the host from the beginning,
/// so that asking later need not wait for the GPU's other work; on the CPU known at once. Copies
/// are the same flag.
class TENDRIL_API LateFlag {
 public:
  /// Known to be false.
  LateFlag() = default;
  /// value() is the tensor's number of now; for tensor() it must stay. `known`: what the host knows.
  explicit LateFlag(const Tensor& flag, std::optional<bool> known = {});

  /// The flag where it was made; undefined for LateFlag().
  Tensor tensor() const;
  /// Whether value() would not wait.
  bool has_arrived() const;
  /// Waits for a GPU that has not got there yet.
  bool value() const;
  /// What the host has seen by now: by value(), or as it knew from the beginning. Does not look.
  std::optional<bool> seen() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tendril
