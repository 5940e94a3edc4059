#include <tendril/core/error.h>
#include <tendril/trainer/optim_args.h>

#include <algorithm>
#include <charconv>

namespace tendril {
namespace {

double number(const char* key, const std::string& text) {
  double value = 0.0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  TENDRIL_CHECK(result.ec == std::errc() && result.ptr == text.data() + text.size(),
                "[create_optimizer] ", key, " in optim_args must be a number; got ", text);
  return value;
}

}  // namespace

OptimArgs::OptimArgs(const TrainingArguments& args)
    : optim_(args.optim), pairs_(args.parsed_optim_args()) {}

std::optional<std::string> OptimArgs::find(const char* key) {
  known_.push_back(key);
  for (const auto& [name, value] : pairs_)
    if (name == key) return value;
  return {};
}

void OptimArgs::take(const char* key, double& value) {
  if (const std::optional<std::string> text = find(key)) value = number(key, *text);
}

void OptimArgs::take(const char* key, int64_t& value) {
  const std::optional<std::string> text = find(key);
  if (!text) return;
  const double given = number(key, *text);
  value = static_cast<int64_t>(given);
  TENDRIL_CHECK(static_cast<double>(value) == given, "[create_optimizer] ", key,
                " in optim_args must be a whole number; got ", *text);
}

void OptimArgs::take(const char* key, bool& value) {
  const std::optional<std::string> text = find(key);
  if (!text) return;
  TENDRIL_CHECK(*text == "true" || *text == "True" || *text == "false" || *text == "False",
                "[create_optimizer] ", key, " in optim_args must be true or false; got ", *text);
  value = (*text)[0] == 't' || (*text)[0] == 'T';
}

void OptimArgs::take(const char* key, std::string& value) { value = find(key).value_or(value); }

void OptimArgs::finish() const {
  std::string known;
  for (const std::string& name : known_) known += (known.empty() ? "" : ", ") + name;
  for (const auto& [key, value] : pairs_)
    TENDRIL_CHECK(std::count(known_.begin(), known_.end(), key) > 0, "[create_optimizer] optim ",
                  optim_, " does not know the option ", key, " of optim_args; it takes ",
                  known.empty() ? "none" : known);
}

}  // namespace tendril
