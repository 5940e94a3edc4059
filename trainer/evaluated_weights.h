// Some optimizers (schedule-free ones) train at other weights than those to be evaluated and saved,
// and so do some callbacks (an average of weights).
#pragma once

#include <memory>
#include <vector>

#include <tendril/optim/optimizer.h>
#include <tendril/trainer/callback.h>

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

/// The same for what callbacks want evaluated; the last to come goes first.
class CallbackWeights {
 public:
  CallbackWeights(const CallbackHandler& callbacks, nn::Module& model) : model_(model) {
    for (const auto& callback : callbacks.all()) {
      callback->begin_evaluation(model);
      moved_.push_back(callback);
    }
  }
  ~CallbackWeights() {
    for (; !moved_.empty(); moved_.pop_back()) moved_.back()->end_evaluation(model_);
  }
  CallbackWeights(const CallbackWeights&) = delete;
  CallbackWeights& operator=(const CallbackWeights&) = delete;

 private:
  nn::Module& model_;
  std::vector<std::shared_ptr<TrainerCallback>> moved_;
};

}  // namespace tendril
