// The options in TrainingArguments::optim_args, as an optimizer's factory takes them out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <tendril/trainer/training_arguments.h>

namespace tendril {

class OptimArgs {
 public:
  explicit OptimArgs(const TrainingArguments& args);

  /// Each sets `value` where the option was given; Error for a text of another kind.
  void take(const char* key, double& value);
  void take(const char* key, int64_t& value);
  void take(const char* key, bool& value);
  void take(const char* key, std::string& value);
  /// Error for an option that nobody has taken, with those that somebody would have.
  void finish() const;

 private:
  std::optional<std::string> find(const char* key);

  std::string optim_;
  std::vector<std::pair<std::string, std::string>> pairs_;
  std::vector<std::string> known_;
};

}  // namespace tendril
