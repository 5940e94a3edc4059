// Callbacks: code of the user that runs at fixed points of training.
//
//   struct StopAfter : TrainerCallback {
//     int64_t limit;
//     explicit StopAfter(int64_t limit) : limit(limit) {}
//     void on_step_end(CallbackContext& c) override {
//       if (c.state.global_step >= limit) c.control.should_training_stop = true;
//     }
//   };
//   trainer.add_callback<StopAfter>(100);
//
// For one optimizer step with everything on, in this order: on_step_begin, on_substep_end for each
// batch but the last, on_pre_optimizer_step (gradients are clipped), on_optimizer_step (weights are
// new, gradients still there), on_step_end, then as asked for: on_log, on_prediction_step per
// evaluation batch, on_log, on_evaluate, on_save.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/json.h>
#include <tendril/nn/module.h>
#include <tendril/optim/optimizer.h>
#include <tendril/trainer/trainer_state.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

namespace optim {
class LrScheduler;
}
class DataLoader;

/// Numbers by name, e.g. {"eval_loss": 1.25}.
using Metrics = std::map<std::string, double>;

/// What an event gets. Change `control` to ask for something; pointers are null where there is no
/// such thing (yet).
struct CallbackContext {
  const TrainingArguments& args;
  TrainerState& state;
  TrainerControl& control;
  nn::Module* model = nullptr;
  optim::Optimizer* optimizer = nullptr;
  optim::LrScheduler* lr_scheduler = nullptr;
  DataLoader* train_dataloader = nullptr;
  DataLoader* eval_dataloader = nullptr;
  const Metrics* metrics = nullptr;  // on_evaluate and on_predict
  const Json* logs = nullptr;        // on_log: an object of numbers, in the order of the row
  /// on_prediction_step: batches of this evaluation, where known
  std::optional<int64_t> prediction_steps = std::nullopt;
};

class TENDRIL_API TrainerCallback {
 public:
  virtual ~TrainerCallback();
  virtual void on_init_end(CallbackContext&) {}
  virtual void on_train_begin(CallbackContext&) {}
  virtual void on_train_end(CallbackContext&) {}
  virtual void on_epoch_begin(CallbackContext&) {}
  virtual void on_epoch_end(CallbackContext&) {}
  virtual void on_step_begin(CallbackContext&) {}
  virtual void on_substep_end(CallbackContext&) {}
  virtual void on_pre_optimizer_step(CallbackContext&) {}
  virtual void on_optimizer_step(CallbackContext&) {}
  virtual void on_step_end(CallbackContext&) {}
  virtual void on_evaluate(CallbackContext&) {}
  virtual void on_predict(CallbackContext&) {}
  virtual void on_prediction_step(CallbackContext&) {}
  virtual void on_save(CallbackContext&) {}
  virtual void on_log(CallbackContext&) {}

  /// The class without namespaces; the key of the callback's state in trainer_state.json.
  virtual std::string name() const;
  /// {"args": {...}, "attributes": {...}} for a callback whose state belongs into checkpoints; null
  /// for the others.
  virtual Json state() const { return Json(); }
  virtual void load_state(const Json&) {}
  /// What is too large for JSON: tensors that go into checkpoints (callbacks.safetensors), and back
  /// after load_state().
  virtual StateDict tensors() const { return {}; }
  virtual void load_tensors(const StateDict&) {}

  /// For callbacks that have the model evaluated at other weights than it trains, in evaluate() and
  /// predict(): begin_evaluation() moves it there and end_evaluation(), called even when the
  /// evaluation fails, back. Checkpoints hold the weights that train.
  virtual void begin_evaluation(nn::Module&) {}
  virtual void end_evaluation(nn::Module&) {}
};

/// The callbacks of a trainer, called in their order.
class TENDRIL_API CallbackHandler {
 public:
  using Event = void (TrainerCallback::*)(CallbackContext&);

  /// A second one of a class is added, with a warning.
  void add(std::shared_ptr<TrainerCallback> callback);
  /// Takes out this one, or the first of a name; null when there is none.
  std::shared_ptr<TrainerCallback> pop(const TrainerCallback& callback);
  std::shared_ptr<TrainerCallback> pop(const std::string& name);
  std::shared_ptr<TrainerCallback> find(const std::string& name) const;
  const std::vector<std::shared_ptr<TrainerCallback>>& all() const { return callbacks_; }

  /// Clears the control flags that belong to the event, then calls it on every callback.
  void call(Event event, CallbackContext& context);

  /// All stateful callbacks and the control, as trainer_state.json has them: name -> state, or an
  /// array where several share a name.
  Json states(const TrainerControl& control) const;
  /// Hands saved states to the callbacks of the same names, in their order; one warning names those
  /// that nobody takes.
  void load_states(const Json& states, TrainerControl& control);
  /// The tensors of all callbacks, as "<name>.<which of that name>.<tensor>", and back; a callback
  /// that the state does not mention is not called.
  StateDict tensors() const;
  void load_tensors(const StateDict& state);

 private:
  std::vector<std::shared_ptr<TrainerCallback>> callbacks_;
};

}  // namespace tendril
