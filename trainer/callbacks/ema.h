// An exponential moving average of the weights.
//
//   auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.999});
//   trainer.train();
//   ema.copy_to(model);  // to go on with the averages
#pragma once

#include <tendril/trainer/callback.h>

namespace tendril {

struct EmaOptions {
  double decay = 0.999;  // in [0, 1)
  /// Lets the average forget the first weights sooner: the decay of update t = 0, 1, ... is at most
  /// (1 + t) / (10 + t).
  bool warmup = false;
  bool evaluate = true;  // evaluate() and predict() use the averages
};

/// average += (1 - decay) (weight - average) after each optimizer step that was not left out, for
/// the parameters that train, in f32 (f64 for f64 parameters). Each train() begins with the weights
/// at its start.
///
/// Averages are saved in checkpoints and come back with restore_callback_states_from_checkpoint;
/// without that flag they begin anew when training resumes, with a warning.
/// load_best_model_at_end brings back the weights that trained, not their averages.
class TENDRIL_API EmaCallback : public TrainerCallback {
 public:
  explicit EmaCallback(const EmaOptions& options = {});

  /// By the parameters' names; they share memory with the callback.
  StateDict averages() const { return tensors(); }
  int64_t updates() const { return updates_; }
  /// Sets the model's parameters to their averages. Error if it has not the parameters of the model
  /// that was trained.
  void copy_to(nn::Module& model) const;

  void on_train_begin(CallbackContext& context) override;
  void on_step_end(CallbackContext& context) override;
  void begin_evaluation(nn::Module& model) override;
  void end_evaluation(nn::Module& model) override;

  Json state() const override;
  void load_state(const Json& state) override;
  StateDict tensors() const override;
  void load_tensors(const StateDict& state) override;

 private:
  struct Entry {
    std::string name;
    Tensor parameter, average;
  };
  void start(const nn::Module& model);
  void take_loaded();

  EmaOptions options_;
  std::vector<Entry> entries_;
  int64_t updates_ = 0;
  uint64_t version_ = 0;           // of the parameters, at the last update
  StateDict loaded_;               // from a checkpoint, until training begins
  std::vector<Tensor> originals_;  // while the averages are evaluated
};

}  // namespace tendril
