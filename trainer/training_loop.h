// The moving parts of a running Trainer::train(). All of them are in a checkpoint or follow from
// one.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include <tendril/optim/grad_scaler.h>
#include <tendril/trainer/checkpoint/background_writer.h>
#include <tendril/trainer/checkpoint/stop_signal.h>
#include <tendril/trainer/trainer.h>

namespace tendril {

/// The losses since the last log row.
struct LossWindow {
  double sum = 0.0;              // of the steps' mean losses
  double logged = 0.0;           // the sums of all rows before
  int64_t last_logged_step = 0;  // global step of the last row

  /// Adds one step's loss; `step` counts from 1. With `filter` one that is not finite is replaced
  /// by the sum so far over the steps of the window, this one included, as in the original.
  void add(double loss, int64_t step, bool filter);
  /// The mean per step of the window that ends with `step`, which a new one follows.
  double close(int64_t step);
};

struct Trainer::Loop {
  StepPlan plan;
  std::shared_ptr<DataLoader> loader;
  std::vector<Tensor> parameters;  // those that train
  std::optional<optim::GradScaler> scaler;

  // ---- position
  int64_t epoch = 0;           // the pass that runs
  int64_t batch = 0;           // batches of it that are done
  int64_t scheduler_step = 0;  // steps of the schedule; skipped updates do not count
  bool exhausted = false;      // the pass has no more batches
  bool epoch_done = false;     // nothing of the pass but its on_epoch_end remains
  bool interrupted = false;    // by a signal
  bool others_stop = false;    // a signal has reached some process
  bool owes_epoch_stop = false, owes_training_stop = false;  // asked for before the checkpoint

  // ---- of the step that runs
  int64_t accumulated = 1;              // batches in it
  int64_t step_tokens = 0;              // of this process, where there are several
  Tensor step_loss;                     // their sum, on the model's device
  std::optional<double> measured_norm;  // of a first pass, for an update during the second

  // ---- logging
  LossWindow window;
  std::optional<double> grad_norm;  // of the last step, before clipping
  double learning_rate = 0.0;       // that it used

  // ---- this process
  using Clock = std::chrono::steady_clock;
  Clock::time_point start = Clock::now();
  int64_t first_step = 0;  // global step at which this process began
  int64_t first_tokens = 0;
  double samples = 0.0;  // examples it has trained on
  bool warned_nonfinite = false;
  BackgroundWriter writer;
  std::optional<StopSignal> stop_signal;

  /// Whether a signal asks to stop: with several processes, as agreed in the last step.
  bool signalled() const { return stop_signal && stop_signal->requested(); }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
  /// Where a run that resumes here goes on, what callbacks have asked for, and the log window, as
  /// JSON; and back.
  Json to_json(const TrainingArguments& args, const TrainerControl& control) const;
  void from_json(const Json& object, const std::string& origin);
};

}  // namespace tendril
