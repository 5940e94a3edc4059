// Helpers for tests that drive callbacks by hand, without a Trainer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <tendril/core/log.h>
#include <tendril/trainer/callback.h>

namespace tendril::testing {

/// Collects the library's messages as long as it lives.
class LogCapture {
 public:
  LogCapture() {
    set_log_sink([this](LogLevel, const std::string& message) { messages.push_back(message); });
  }
  ~LogCapture() { set_log_sink({}); }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  std::vector<std::string> messages;
};

/// What a Trainer has around its callbacks.
struct HandDriven {
  TrainingArguments args;
  TrainerState state;
  TrainerControl control;
  CallbackHandler handler;

  CallbackContext context() { return {.args = args, .state = state, .control = control}; }

  void fire(CallbackHandler::Event event) {
    CallbackContext c = context();
    handler.call(event, c);
  }
  /// A row at the state's step, in the order and the place in which a Trainer has it: the history
  /// comes first.
  void log(const Json& row) {
    Json remembered = row;
    state.log_history.push_back(remembered.set("step", state.global_step));
    CallbackContext c = context();
    c.logs = &row;
    handler.call(&TrainerCallback::on_log, c);
  }
  void evaluate(const Metrics& metrics) {
    CallbackContext c = context();
    c.metrics = &metrics;
    handler.call(&TrainerCallback::on_evaluate, c);
  }
};

inline Json row(const std::string& text) { return Json::parse(text, "test row"); }

}  // namespace tendril::testing
