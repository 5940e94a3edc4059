#include <tendril/core/error.h>
#include <tendril/optim/schedule_kwargs.h>

#include <algorithm>

namespace tendril::optim {
namespace {

std::string join(const std::vector<std::string_view>& words) {
  std::string text;
  for (const std::string_view word : words) text.append(text.empty() ? "" : ", ").append(word);
  return text;
}

}  // namespace

ScheduleKwargs::ScheduleKwargs(std::string_view schedule, const Json& values,
                               const std::vector<std::string_view>& known)
    : schedule_(schedule), values_(values.is_null() ? Json::object() : values) {
  TENDRIL_CHECK(values_.is_object(), "[lr_scheduler] the options of ", schedule,
                " must be a JSON object; got ", values_.dump());
  for (const auto& [key, value] : values_.members())
    TENDRIL_CHECK(std::find(known.begin(), known.end(), key) != known.end(), "[lr_scheduler] ",
                  schedule, " has no option \"", key, "\"; ",
                  known.empty() ? "it takes none" : "it takes " + join(known));
}

const Json* ScheduleKwargs::find(std::string_view key) const {
  const Json* value = values_.find(key);
  return value && !value->is_null() ? value : nullptr;
}

void ScheduleKwargs::wrong(std::string_view key, std::string_view wanted, const Json& got) const {
  fail("[lr_scheduler] ", schedule_, ": ", key, " must be ", wanted, "; got ", got.dump());
}

double ScheduleKwargs::number(std::string_view key, double fallback) const {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_number()) wrong(key, "a number", *value);
  return value->as_double();
}

int64_t ScheduleKwargs::integer(std::string_view key, int64_t fallback) const {
  const Json* value = find(key);
  if (!value) return fallback;
  if (!value->is_integer()) wrong(key, "an integer", *value);
  return value->as_int();
}

size_t ScheduleKwargs::choice(std::string_view key, std::initializer_list<std::string_view> choices,
                              std::string_view fallback) const {
  const Json* value = find(key);
  const auto found = std::find(choices.begin(), choices.end(),
                               !value               ? fallback
                               : value->is_string() ? std::string_view(value->as_string())
                                                    : std::string_view());
  if (found == choices.end()) wrong(key, "one of " + join(choices), *value);
  return static_cast<size_t>(found - choices.begin());
}

}  // namespace tendril::optim
