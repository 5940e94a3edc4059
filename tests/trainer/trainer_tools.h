// Small models, data and trainers whose every number can be worked out by hand.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/trainer/data/in_memory_dataset.h>
#include <tendril/trainer/data/text_dataset.h>
#include <tendril/trainer/trainer.h>
#include "file_tools.h"

namespace tendril::testing {

/// logits = a x + b; the loss is the mean of (logits - labels)^2.
struct Regression : nn::Module {
  Tensor a, b;
  explicit Regression(double a0 = 0.0, double b0 = 0.0)
      : a(add_parameter("a", Tensor::from<double>({a0}, {1}))),
        b(add_parameter("b", Tensor::from<double>({b0}, {1}))) {}
  ModelOutput forward(const Batch& batch) {
    const Tensor y = column(batch, "x") * a + b;
    ModelOutput output{{}, {{"logits", y}}};
    if (const auto labels = batch.find("labels"); labels != batch.end())
      output.loss = mean(square(y - labels->second));
    return output;
  }
};

/// Example i is {"x": i / 10, "labels": 2 x + 1}.
inline std::shared_ptr<const Dataset> line_data(int64_t size) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < size; ++i) {
    const double x = static_cast<double>(i) / 10.0;
    examples.push_back({{"x", Tensor::from<double>({x}, {1})},
                        {"labels", Tensor::from<double>({2.0 * x + 1.0}, {1})}});
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

/// Windows of 8 tokens over a text of a few letters.
inline std::shared_ptr<const Dataset> letters(int64_t windows) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i <= 8 * windows; ++i) tokens.push_back((i * i + i / 3) % 16);
  return TextDataset::tokens(tokens, 8);
}

inline nn::models::Gpt2Config tiny_gpt_config(double dropout = 0.1) {
  return {.vocab_size = 16,
          .n_positions = 8,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = 16,
          .embd_pdrop = dropout,
          .attn_pdrop = dropout,
          .resid_pdrop = dropout};
}

/// Arguments for `folder` that keep a test quiet and save nothing unless asked.
inline TrainingArguments quiet_args(const TemporaryFolder& folder) {
  TrainingArguments args;
  args.output_dir = folder.path().string();
  args.save_strategy = SaveStrategy::no;
  args.logging_strategy = IntervalStrategy::no;
  args.disable_tqdm = true;
  args.use_cpu = true;
  return args;
}

/// Everything that moves is on: dropout, shuffling, accumulation with a short last window, a log
/// window that checkpoints cut, evaluations, a schedule with warm-up.
inline TrainingArguments eventful_args(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.num_train_epochs = 2;
  args.per_device_train_batch_size = 2;
  args.gradient_accumulation_steps = 2;
  args.learning_rate = 1e-2;
  args.weight_decay = 0.1;
  args.lr_scheduler_type = SchedulerType::cosine;
  args.warmup_steps = 2;
  args.logging_strategy = IntervalStrategy::steps;
  args.logging_steps = 3;
  args.eval_strategy = IntervalStrategy::steps;
  args.eval_steps = 4;
  args.save_strategy = SaveStrategy::steps;
  args.save_steps = 1;
  return args;
}

/// Without the callback that prints.
inline void silence(Trainer& trainer) { trainer.remove_callback("PrinterCallback"); }

/// Notes the names of events, in order.
struct EventRecorder : TrainerCallback {
  std::vector<std::string> events;
#define NOTE(event) \
  void event(CallbackContext&) override { events.push_back(#event); }
  NOTE(on_init_end)
  NOTE(on_train_begin)
  NOTE(on_train_end) NOTE(on_epoch_begin) NOTE(on_epoch_end) NOTE(on_step_begin)
      NOTE(on_substep_end) NOTE(on_pre_optimizer_step) NOTE(on_optimizer_step) NOTE(on_step_end)
          NOTE(on_evaluate) NOTE(on_predict) NOTE(on_prediction_step) NOTE(on_save) NOTE(on_log)
#undef NOTE
};

/// The values of `key` in the rows of the log history that have it.
inline std::vector<double> logged(const TrainerState& state, const std::string& key) {
  std::vector<double> values;
  for (const Json& row : state.log_history)
    if (const Json* value = row.find(key)) values.push_back(value->as_double());
  return values;
}

/// All parameters' bits, one after the other, for comparisons that allow no difference.
inline std::vector<double> all_weights(const nn::Module& module) {
  std::vector<double> values;
  for (const auto& [name, tensor] : module.state_dict())
    for (const double value : tensor.to_vector<double>()) values.push_back(value);
  return values;
}

}  // namespace tendril::testing
