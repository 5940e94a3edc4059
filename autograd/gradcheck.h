// Comparing the tape's gradients with finite differences.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril {

struct GradcheckOptions {
  double step = 2e-4;       // of the five-point central difference; its error is about step^4
  double tolerance = 1e-6;  // largest allowed relative error
  uint64_t seed = 0;        // of the random weights by which the outputs are summed
};

struct GradcheckResult {
  bool ok = false;
  double worst_error =
      0.0;              // |tape - numeric| / max(|tape|, |numeric|, 1e-2 largest gradient, 1e-3)
  std::string message;  // where the worst error is
  explicit operator bool() const { return ok; }
};

/// Checks d(sum of w . fn(inputs))/d(inputs), w random, for every element of every input that
/// requires grad. Inputs must be f64 (Error otherwise); `fn` must be deterministic and return one
/// tensor.
TENDRIL_API GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& fn,
                                      const std::vector<Tensor>& inputs,
                                      const GradcheckOptions& options = {});

}  // namespace tendril
