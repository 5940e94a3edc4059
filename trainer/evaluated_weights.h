// Some optimizers (schedule-free ones) train at other weights than those to be evaluated and saved.
#pragma once

#include <tendril/optim/optimizer.h>

namespace tendril {

/// The weights to be evaluated, while in scope; null does nothing.
class EvaluatedWeights {
 public:
  explicit EvaluatedWeights(optim::Optimizer* optimizer) : optimizer_(optimizer) {
    if (optimizer_) optimizer_->eval();
  }
  ~EvaluatedWeights() {
    if (optimizer_) optimizer_->train();
  }
  EvaluatedWeights(const EvaluatedWeights&) = delete;
  EvaluatedWeights& operator=(const EvaluatedWeights&) = delete;

 private:
  optim::Optimizer* optimizer_;
};

}  // namespace tendril
