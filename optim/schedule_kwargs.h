// Private to optim: the options of one schedule, read from JSON by name.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/json.h>

namespace tendril::optim {

class ScheduleKwargs {
 public:
  /// Error unless `values` is null or an object all of whose members are among `known`.
  ScheduleKwargs(std::string_view schedule, const Json& values,
                 const std::vector<std::string_view>& known);

  /// Whether the option is given; null counts as not given.
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // Each gives `fallback` for what is not given; Error for a value of another kind.
  double number(std::string_view key, double fallback) const;
  int64_t integer(std::string_view key, int64_t fallback) const;
  /// The index in `choices`, `fallback` is one of them.
  size_t choice(std::string_view key, std::initializer_list<std::string_view> choices,
                std::string_view fallback) const;

 private:
  const Json* find(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, std::string_view wanted, const Json& got) const;

  std::string schedule_;
  Json values_;
};

}  // namespace tendril::optim
