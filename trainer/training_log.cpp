// What a run says about itself: log rows, and the summary at its end.
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/memory_metrics.h>
#include <tendril/trainer/rounded.h>
#include <tendril/trainer/training_loop.h>

#include <algorithm>
#include <cmath>

namespace tendril {
void LossWindow::add(double loss, int64_t step, bool filter) {
  if (filter && !std::isfinite(loss)) loss = sum / static_cast<double>(step - last_logged_step);
  sum += loss;
}

double LossWindow::close(int64_t step) {
  const double mean = sum / static_cast<double>(step - last_logged_step);
  logged += sum;
  sum = 0.0;
  last_logged_step = step;
  return mean;
}

void Trainer::log_window(Loop& loop) {
  Json row = Json::object();
  row.set("loss", json_number(loop.window.close(state_.global_step)));
  if (loop.grad_norm) row.set("grad_norm", json_number(*loop.grad_norm));
  row.set("learning_rate", json_number(loop.learning_rate));
  log(std::move(row));
}

void Trainer::log(Json logs) {
  const bool of_training = logs.find("loss") != nullptr;
  if (state_.epoch) logs.set("epoch", json_number(*state_.epoch));
  if (args_.include_num_input_tokens_seen != "no") {
    logs.set("num_input_tokens_seen", state_.num_input_tokens_seen);
    if (loop_ && of_training) {
      const double seconds = std::max(loop_->seconds(), 1e-9);
      const auto tokens = static_cast<double>(state_.num_input_tokens_seen - loop_->first_tokens);
      logs.set("train_runtime", json_number(rounded(seconds, 4)));
      logs.set("train_tokens_per_second", json_number(rounded(tokens / seconds, 3)));
    }
  }
  Json entry = logs;
  entry.set("step", state_.global_step);
  state_.log_history.push_back(std::move(entry));
  CallbackContext c = context();
  c.logs = &logs;
  callbacks_.call(&TrainerCallback::on_log, c);
}

TrainOutput Trainer::finish_training(Loop& loop, const MemoryMetrics& memory) {
  loop.writer.wait();
  optimizer_->eval();  // the weights to keep, where they are not those that were trained
  if (args_.load_best_model_at_end && !loop.interrupted) load_best_model();
  const double seconds = std::max(loop.seconds(), 1e-9);
  const double samples = distribution_->sum(std::vector{loop.samples})[0];
  const auto steps = static_cast<double>(state_.global_step - loop.first_step);
  TrainOutput output;
  output.global_step = state_.global_step;
  output.training_loss = (loop.window.logged + loop.window.sum) /
                         std::max(static_cast<double>(state_.global_step), 0.001);
  // Of the work that this process has done, not of what was planned.
  output.metrics = {{"train_runtime", rounded(seconds, 4)},
                    {"train_samples_per_second", rounded(samples / seconds, 3)},
                    {"train_steps_per_second", rounded(steps / seconds, 3)},
                    {"total_flos", state_.total_flos},
                    {"train_loss", output.training_loss}};
  Json row = Json::object();
  for (const char* name : {"train_runtime", "train_samples_per_second", "train_steps_per_second",
                           "total_flos", "train_loss"})
    row.set(name, json_number(output.metrics.at(name)));
  for (const auto& [name, value] : memory.finish()) {
    output.metrics[name] = value;
    row.set(name, json_number(value));
  }
  log(std::move(row));
  if (state_.epoch) output.metrics["epoch"] = *state_.epoch;
  if (!loop.interrupted) rotate_at_end();
  fire(&TrainerCallback::on_train_end);
  return output;
}

}  // namespace tendril
